"""How names and failures are written on one line, for people. Pure; any thread."""

from __future__ import annotations

import os
import re


def printable(name: bytes | str) -> str:
    """Shows a file name on one line: undecodable bytes and control characters are escaped."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if text.isprintable():  # quick, for paths of ten thousand directories
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def end_of(path: bytes) -> str:
    """Shows a path, of a very long one the end."""
    return printable(path if len(path) <= 256 else b"..." + path[-256:])


def printable_uri(uri: str) -> str:
    """Shows a URI on one line without what may be a secret in it: user, password and query."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower() == "file":
        return printable(uri)
    authority, slash, path = rest.partition("/")
    shown = re.split("[?#]", authority.rpartition("@")[2] + slash + path, maxsplit=1)[0]
    return printable(scheme + separator + shown) + ("?..." if "?" in rest else "")


def failure(error: OSError) -> str:
    """Returns what the system refused, with the paths that it named."""
    if not error.strerror:
        return str(error) or os.strerror(error.errno or 0)
    paths = [printable(path) for path in (error.filename, error.filename2) if isinstance(path, bytes | str)]
    return ": ".join((" -> ".join(paths), error.strerror)) if paths else error.strerror
