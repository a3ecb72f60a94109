"""Durations as users write them. Pure; any thread."""

from __future__ import annotations

import re

from artfs.errors import InvalidCommand
from artfs.printing import printable

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(text: str) -> int:
    """Reads seconds, or a number with s, m, h, d or w. Raises :class:`~artfs.errors.InvalidCommand`."""
    found = re.fullmatch(r"([0-9]{1,12})([smhdw]?)", text, re.ASCII)
    if found is None:
        raise InvalidCommand(
            f"'{printable(text)}' is not a duration: write seconds, or a number with s, m, h, d or w"
        )
    return int(found[1]) * _UNITS[found[2]]
