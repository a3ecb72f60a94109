"""Limits how often the log repeats what users can cause again and again, as by reading a damaged file.

Knows of records only their logger and text. Any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from cachetools import TTLCache

#: Loggers of what users can repeat.
USERS = ("artfs.references.", "artfs.vfs.", "artfs.volume.volume_references")

_AGAIN = 3600.0  # seconds after which the same text is logged again
_REMEMBERED = 1000  # texts
_PER_MINUTE = 60  # texts of one logger


class LogRateLimit(logging.Filter):
    """Passes the same text once an hour, and 60 texts of a logger a minute; counts those it leaves out."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now, self._lock = now, threading.Lock()  # a handler filters before it takes its own lock
        self._logged: TTLCache[str, None] = TTLCache(_REMEMBERED, _AGAIN, timer=now)
        self._minute = 0
        self._count: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or not record.name.startswith(USERS):
            return True
        with self._lock:
            return self._filter(record, record.getMessage())

    def _filter(self, record: logging.LogRecord, text: str) -> bool:
        if text in self._logged:
            return False
        if self._minute != self._now() // 60:
            self._minute = int(self._now() // 60)
            self._count.clear()
        self._count[record.name] += 1
        if self._count[record.name] > _PER_MINUTE:
            self._left_out[record.name] += 1
            return False
        self._logged[text] = None
        if left_out := self._left_out.pop(record.name, 0):
            record.msg, record.args = f"{text} (and {left_out} others before)", None
        return True


def install() -> None:
    """Adds the filter to the handlers of the root logger."""
    limit = LogRateLimit()
    for handler in logging.getLogger().handlers:
        handler.addFilter(limit)
