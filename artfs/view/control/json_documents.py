"""JSON that comes in pieces: whole, not yet whole, or never going to be."""

from __future__ import annotations

import json
import re

from artfs.errors import InvalidCommand

# What of a token may stand at the end of a prefix of a document.
_LONGEST_ESCAPE = 6
_PIECE = re.compile(r"[-+.0-9eE]*|t(r(ue?)?)?|f(a(l(se?)?)?)?|n(u(ll?)?)?")


def is_whole(document: bytes) -> bool:
    """Tells whether a JSON object is complete. Raises :class:`InvalidCommand` for what can't become one."""
    try:
        text = document.decode()
    except UnicodeDecodeError as error:
        if error.end == len(document) and error.reason == "unexpected end of data":
            return False  # in the middle of a character
        raise InvalidCommand("it is not UTF-8") from None
    stripped = text.strip()
    if not stripped:
        return False
    if not stripped.startswith("{"):
        raise InvalidCommand("it must be a JSON object, {...}")
    if not stripped.endswith("}") and len(stripped) > 1 << 20:
        return False  # of a long document each piece would have to be read again to know more
    try:
        json.loads(stripped)
    except json.JSONDecodeError as error:
        cut_escape = "escape" in error.msg and len(stripped) - error.pos <= _LONGEST_ESCAPE
        if cut_escape or error.msg.startswith("Unterminated string") or _PIECE.fullmatch(stripped, error.pos):
            return False
        raise InvalidCommand(f"it is not JSON: {error}") from None
    except RecursionError:
        raise InvalidCommand("it is nested too deeply") from None
    return True
