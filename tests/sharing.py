"""A pytest plugin by which several processes share the tests: each runs the modules that it takes first.

``scripts/test`` starts each of them with ``-p tests.sharing --share DIRECTORY``. In that directory an empty
file marks each module that is taken, and ``counts.PID`` has the numbers of a process that has ended.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", type=Path, required=True, help="where processes record what they take")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Share(config.getoption("share")))


class Share:
    """The modules of one process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mine: dict[Path, bool] = {}
        self._collected = self._run = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Runs the tests of this process. Pytest's own loop reports a failed collection."""
        if session.testsfailed or session.config.option.collectonly:
            return None
        self._collected = len(session.items)
        items = filter(self._has, session.items)
        item = next(items, None)
        while item is not None:
            following = next(items, None)  # the fixtures that both have stay
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self._run += 1
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
            item = following
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Writes the numbers for the script that started the processes."""
        numbers = {outcome: len(reports) for outcome, reports in terminalreporter.stats.items() if outcome}
        numbers |= {"collected": self._collected, "run": self._run}
        lines = [f"{what} {number}\n" for what, number in numbers.items()]
        (self._directory / f"counts.{os.getpid()}").write_text("".join(lines))

    def _has(self, item: pytest.Item) -> bool:
        """Tells whether this process runs a test; takes its module if no process has."""
        if item.path not in self._mine:
            self._mine[item.path] = self._take(item.path)
        return self._mine[item.path]

    def _take(self, module: Path) -> bool:
        name = hashlib.sha256(os.fsencode(module)).hexdigest()
        try:
            (self._directory / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
