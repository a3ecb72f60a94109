"""How often the log repeats messages that users can cause repeatedly."""

from __future__ import annotations

import logging

from artfs.limits import log_rate_limit


class Log:
    """The messages that pass the limit; the clock stands still."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._limit = log_rate_limit.LogRateLimit(lambda: self.now)

    def emit(self, name: str, text: str) -> None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "%s", (text,), None)
        if self._limit.filter(record):
            self.lines.append(record.getMessage())


def test_repeated_messages_are_logged_once() -> None:
    log = Log()
    for _ in range(10):
        log.emit("artfs.volume.volume_references", "gone")
        log.emit("artfs.fuse.operations", "not the users'")
    assert log.lines.count("gone") == 1
    assert log.lines.count("not the users'") == 10
    log.emit("artfs.volume.volume_references", "changed")
    log.now = 4000
    log.emit("artfs.volume.volume_references", "gone")
    assert log.lines[-2:] == ["changed", "gone"]


def test_the_growth_of_the_log_is_bounded() -> None:
    log = Log()
    for number in range(5000):
        log.emit("artfs.vfs.sealed", f"{number} is damaged")
    assert len(log.lines) == 60
    log.now = 61
    log.emit("artfs.vfs.sealed", "1 is damaged")
    log.emit("artfs.vfs.sealed", "4000 is damaged")
    assert log.lines[60:] == ["4000 is damaged (and 4940 others before)"]
