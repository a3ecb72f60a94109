"""Keeps the log from growing by what users do: whoever reads what is broken has each read fail.

Owns how often that is told. Knows of records nothing but their logger and text. Any thread; handlers lock.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

#: Loggers that tell of what users can repeat.
USERS = ("artfs.references.", "artfs.vfs.", "artfs.volume.volume_references")

_AGAIN = 3600.0  # seconds after which the same text is told once more
_REMEMBERED = 1000  # texts
_A_MINUTE = 60  # texts of one logger


class Sparing(logging.Filter):
    """Lets the same text through once an hour, and of one logger so many a minute; tells how many not."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._told: OrderedDict[str, float] = OrderedDict()
        self._minute = 0
        self._of: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or not record.name.startswith(USERS):
            return True
        now, text = self._now(), record.getMessage()
        if text in self._told and now - self._told[text] < _AGAIN:
            return False
        if self._minute != now // 60:
            self._minute = int(now // 60)
            self._of.clear()
        self._of[record.name] += 1
        if self._of[record.name] > _A_MINUTE:
            self._left_out[record.name] += 1
            return False
        self._told[text] = now
        self._told.move_to_end(text)
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        if left_out := self._left_out.pop(record.name, 0):
            record.msg, record.args = f"{text} (and {left_out} others before)", None
        return True


def spare_the_log() -> None:
    """Has all that is logged from now on go through here, as far as the log is there already."""
    sparing = Sparing()
    for handler in logging.getLogger().handlers:
        handler.addFilter(sparing)


__all__ = ["USERS", "Sparing", "spare_the_log"]
