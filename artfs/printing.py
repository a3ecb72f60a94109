"""Names, paths, URIs and errors of the system as text on one line. Pure; any thread."""

from __future__ import annotations

import os
import re


def printable(name: bytes | str) -> str:
    """Returns a file name with undecodable bytes and control characters escaped."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if text.isprintable():  # quick, for paths of ten thousand directories
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def printable_end(path: bytes) -> str:
    """Returns a path like :func:`printable`; of a very long one only its end."""
    return printable(path if len(path) <= 256 else b"..." + path[-256:])


def printable_uri(uri: str) -> str:
    """Returns a URI without the parts that can be secret: user, password and query."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower() == "file":
        return printable(uri)
    authority, slash, path = rest.partition("/")
    shown = re.split("[?#]", authority.rpartition("@")[2] + slash + path, maxsplit=1)[0]
    return printable(scheme + separator + shown) + ("?..." if "?" in rest else "")


def os_error_text(error: OSError) -> str:
    """Returns the text of an error of the system, with the paths that it names."""
    if not error.strerror:
        return str(error) or os.strerror(error.errno or 0)
    paths = [printable(path) for path in (error.filename, error.filename2) if isinstance(path, bytes | str)]
    return ": ".join((" -> ".join(paths), error.strerror)) if paths else error.strerror
