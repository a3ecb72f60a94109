"""An exception as a JSON object: a way for its class and fields through a mount, which passes errnos alone.

``{"error": "RunsJoined", "text": "runs have joined ...", "fields": {"runs": ["run-1"]}}``

Owns that format. Bytes are ``{"bytes": TEXT}``, with undecodable ones as lone surrogates. An OSError has its
errno among the fields. The reader does not trust the object: it makes only exceptions of
:mod:`artfs.errors` and OSErrors, with fields. Pure; any thread.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from artfs import errors
from artfs.errors import ArtfsError, Writer
from artfs.printing import printable

OFFSET = 1 << 62
"""The offset at which a handle of a control file reads its last refusal as such an object, or nothing.

The answer for people is at the lower offsets.
"""

_SYSTEM = "OSError"


def encoded(error: ArtfsError | OSError) -> str:
    """Returns an exception as one line of JSON."""
    if isinstance(error, ArtfsError):
        kind, text, fields = type(error).__name__, str(error), vars(error)
    else:
        path = error.filename
        shown = printable(path) if isinstance(path, bytes | str) else None
        kind, text, fields = _SYSTEM, error.strerror or str(error), {"errno": error.errno, "path": shown}
    public = {key: value for key, value in fields.items() if not key.startswith("_")}
    return json.dumps({"error": kind, "text": text, "fields": public}, default=_plain)


def decoded(document: bytes | str) -> ArtfsError | OSError | None:
    """Returns the exception; None for anything but such an object, or for an unknown class."""
    try:
        read = json.loads(document, object_hook=_typed)
        kind, text, fields = read["error"], read["text"], _tuples(read["fields"])
        if kind == _SYSTEM:
            return OSError(int(fields["errno"]), str(text), fields["path"])
        known = getattr(errors, kind)
        if not issubclass(known, ArtfsError) or any(name.startswith("_") for name in fields):
            return None
        found: ArtfsError = known.__new__(known)
        found.__setstate__({**fields, "args": (str(text),)})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.decode("utf-8", "surrogateescape")}
    if isinstance(value, Writer):
        return {"writer": dataclasses.asdict(value)}
    raise TypeError(f"{type(value).__name__} is not a type of an exception's field")


def _typed(value: dict[str, Any]) -> Any:
    if value.keys() == {"bytes"}:
        return value["bytes"].encode("utf-8", "surrogateescape")
    if value.keys() == {"writer"}:
        return Writer(**value["writer"])
    return value


def _tuples(value: Any) -> Any:
    """Turns lists into tuples, since fields of exceptions are immutable."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
