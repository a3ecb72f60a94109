"""A JSON object that is written in pieces: complete, incomplete, or invalid whatever follows."""

from __future__ import annotations

import json
import re

from artfs.errors import InvalidCommand

_LONGEST_ESCAPE = 6  # characters of \uXXXX, which the end of a piece may cut
_SHORT = 1 << 16  # bytes of a document that is parsed with each piece
_BLANK = re.compile(rb"\s*")
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*(?:"|\Z)')
_PIECE = re.compile(r"[-+.0-9eE]*|t(r(ue?)?)?|f(a(l(se?)?)?)?|n(u(ll?)?)?")


def is_whole(document: bytes | bytearray) -> bool:
    """Tells whether a JSON object is complete. Raises :class:`InvalidCommand` if it can't become one."""
    try:
        text = document.decode()
    except UnicodeDecodeError as error:
        if error.end == len(document) and error.reason == "unexpected end of data":
            return False  # the piece ends within a character
        raise InvalidCommand("cannot read the document: it is not UTF-8") from None
    stripped = text.strip()
    if not stripped:
        return False
    if not stripped.startswith("{"):
        raise _no_object()
    try:
        json.loads(stripped)
    except json.JSONDecodeError as error:
        cut_escape = "escape" in error.msg and len(stripped) - error.pos <= _LONGEST_ESCAPE
        if cut_escape or error.msg.startswith("Unterminated string") or _PIECE.fullmatch(stripped, error.pos):
            return False
        raise InvalidCommand(f"cannot read the document: it is not JSON: {error}") from None
    except RecursionError:
        raise InvalidCommand("cannot read the document: it is nested too deeply") from None
    return True


class Document:
    """The beginning of a JSON object.

    The cost is proportional to the bytes, however small the pieces are: of a long document the brackets are
    counted, instead of parsing it to see whether it is complete. One thread at a time.
    """

    __slots__ = ("_begin", "_data", "_depth", "_held", "_in_string")

    def __init__(self) -> None:
        self._data = bytearray()
        self._begin = 0  # where it begins after blanks, as far as that is known
        self._depth = 0
        self._in_string, self._held = False, b""  # a backslash at the end escapes what follows

    def __len__(self) -> int:
        return len(self._data)

    def add(self, data: bytes) -> bytes | None:
        """Adds a piece; returns the document if it is complete. A long one may only seem so.

        Raises :class:`InvalidCommand` if it can't become a JSON object; for a long one not always.
        """
        self._data += data
        self._count(data)
        whole = is_whole(self._data) if len(self._data) <= _SHORT else self._begun() and self._depth <= 0
        return bytes(self._data) if whole else None

    def _begun(self) -> bool:
        found = _BLANK.match(self._data, self._begin)
        assert found is not None
        self._begin = found.end()
        if self._begin == len(self._data):
            return False
        if self._data[self._begin] != ord("{"):
            raise _no_object()
        return True

    def _count(self, data: bytes) -> None:
        """Counts the brackets outside of strings."""
        # A string that continues is opened again. The NUL after one more quote remains if that ends a string.
        data = (b'"' if self._in_string else b"") + self._held + data
        self._held = b"\\" if (len(data) - len(data.rstrip(b"\\"))) % 2 else b""
        outside = _STRING.sub(b"", _ESCAPED.sub(b"", data.removesuffix(self._held)) + b'"\0')
        self._in_string = outside.endswith(b"\0")
        self._depth += sum(map(outside.count, (b"{", b"["))) - sum(map(outside.count, (b"}", b"]")))


def _no_object() -> InvalidCommand:
    return InvalidCommand("cannot read the document: it must be a JSON object, {...}")
