"""How often the log repeats what users can cause again and again."""

from __future__ import annotations

import logging

from artfs.limits import log_rate_limit


class Log:
    """What a log tells of what is logged; the clock stands still."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._limit = log_rate_limit.LogRateLimit(lambda: self.now)

    def tell(self, name: str, text: str) -> None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "%s", (text,), None)
        if self._limit.filter(record):
            self.lines.append(record.getMessage())


def test_what_users_repeat_is_logged_once() -> None:
    log = Log()
    for _ in range(10):
        log.tell("artfs.volume.volume_references", "gone")
        log.tell("artfs.fuse.operations", "not the users'")
    assert log.lines.count("gone") == 1
    assert log.lines.count("not the users'") == 10
    log.tell("artfs.volume.volume_references", "changed")
    log.now = 4000
    log.tell("artfs.volume.volume_references", "gone")
    assert log.lines[-2:] == ["changed", "gone"]


def test_the_log_grows_slowly_whatever_is_logged() -> None:
    log = Log()
    for number in range(5000):
        log.tell("artfs.vfs.sealed", f"{number} is damaged")
    assert len(log.lines) == 60
    log.now = 61
    log.tell("artfs.vfs.sealed", "1 is damaged")
    log.tell("artfs.vfs.sealed", "4000 is damaged")
    assert log.lines[60:] == ["4000 is damaged (and 4940 others before)"]
