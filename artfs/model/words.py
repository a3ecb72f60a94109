"""Lists of texts in control files: words in one line, or one text in each line.

A list in one line is of words separated by blanks; in several lines each line is one text. In both ``%XX`` is
a byte of UTF-8, so that a word may have a blank. A ``%`` without two hex digits after it is literal. Blanks
are those of ASCII. Pure functions: any thread may call them.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from artfs.errors import InvalidCommand
from artfs.printing import printable

_BLANKS = b" \t\v\f\r"
_CONTROL = "\\0-\x1f\x7f-\x9f\u2028\u2029"
_CONFUSABLE = "%(?=[0-9A-Fa-f]{2})"  # reads as the escape of a byte
_ESCAPED_IN_WORDS = re.compile(f"[ {_CONTROL}]|{_CONFUSABLE}|^-")  # a dash begins an option
_ESCAPED_IN_LINES = re.compile(f"[{_CONTROL}]|{_CONFUSABLE}|^ | $")


def read_list(text: bytes) -> list[str]:
    """Reads a list; empty lines are ignored. Raises InvalidCommand for bytes that are not UTF-8."""
    return read_lines(text) if b"\n" in text else [read_word(word) for word in text.split()]


def read_lines(text: bytes) -> list[str]:
    """Reads one text from each line. Raises InvalidCommand for bytes that are not UTF-8."""
    lines = (line.strip(_BLANKS) for line in text.split(b"\n"))
    return [read_word(line) for line in lines if line]


def read_word(word: bytes) -> str:
    """Reads a single word or line. Raises InvalidCommand for bytes that are not UTF-8."""
    try:
        return unquote_to_bytes(word).decode()
    except UnicodeDecodeError:
        raise InvalidCommand(f"'{printable(word)}' is not UTF-8") from None


def word(text: str) -> str:
    """Writes a text as one word, which :func:`read_list` reads back."""
    return _ESCAPED_IN_WORDS.sub(_escaped, text)


def line(text: str) -> str:
    """Writes a text as one line, which :func:`read_lines` reads back; blanks within it are kept."""
    return _ESCAPED_IN_LINES.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


__all__ = ["line", "read_lines", "read_list", "read_word", "word"]
