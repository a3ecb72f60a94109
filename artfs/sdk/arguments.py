"""Checks of what users pass: a TypeError or ValueError names the argument, before anything is stored.

Owns how text becomes names and paths of a tree. Pure; any thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from artfs.catalog import records
from artfs.errors import InvalidCommand, InvalidName
from artfs.model import names
from artfs.volume.volume_references import check_uri

StrPath = str | os.PathLike[str]
A = TypeVar("A")
R = TypeVar("R")


def path(argument: str, value: StrPath, *, directory: bool = False) -> tuple[bytes, ...]:
    """Returns the parts of a path within an artifact; ``./a``, ``a//b`` and ``a/`` are ``a``, ``a/b``, ``a``.

    The path of a `directory` may be empty: the top.
    """
    text = fspath(argument, value)
    if text.startswith("/"):
        raise ValueError(f"{argument}={text!r} is absolute: use a path within the artifact")
    if "\0" in text:
        raise ValueError(f"{argument}={text!r} holds a NUL, which no path can")
    parts = tuple(os.fsencode(part) for part in text.split("/") if part not in ("", "."))
    if not parts and not directory:
        raise ValueError(f"{argument}={text!r} is empty: use a path within the artifact")
    for part in parts:
        try:
            names.check_entry_name(part)
        except InvalidName as error:
            raise ValueError(f"{argument}={text!r} is not a path within the artifact: {error.rule}") from None
    return parts


def fspath(argument: str, value: StrPath) -> str:
    """Returns a path as text."""
    given: Any = value
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{argument} must be a path, not {type(given).__name__}")
    text = os.fspath(given)
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be text, not {type(text).__name__}")
    return text


def text(argument: str, value: str, *, empty: bool = False) -> str:
    given: Any = value
    if not isinstance(given, str):
        raise TypeError(f"{argument} must be text, not {type(given).__name__}")
    if not given and not empty:
        raise ValueError(f"{argument} is empty")
    return given


def collection(argument: str, value: str) -> str:
    """Checks the name of an artifact, which is that of its collection."""
    try:
        return names.check_collection(text(argument, value))
    except InvalidName as error:
        raise ValueError(f"{argument}={value!r}: {error.rule}") from None


def line(argument: str, value: str) -> str:
    """Checks one line of text, like the group of a run."""
    return _legal(argument, lambda given: records.check_line(argument, given), text(argument, value))


def kind(argument: str, value: str) -> str:
    """Checks the type of an artifact."""
    return _legal(argument, records.check_type, text(argument, value))


def aliases(argument: str, value: Iterable[str] | str | None) -> list[str]:
    """Checks aliases for a version. Leaves out `latest`, which moves by itself, and empty ones."""
    found = [word for word in words(argument, value, empty=True) if word not in ("", names.LATEST)]
    for word in found:
        try:
            names.check_alias(encoded_alias(word))
        except InvalidName as error:
            raise ValueError(f"{argument}: {word!r} can't be an alias: {error.rule}") from None
    return found


def encoded_alias(value: str) -> str:
    """Returns an alias as the volume has it: `/` is percent-encoded, and so are ``%2F`` and ``%25``."""
    return re.sub("/|%(?=2F|25)", lambda found: f"%{ord(found[0]):02X}", value)


def encoded_aliases(values: Iterable[str]) -> list[str]:
    return list(map(encoded_alias, values))


def decoded_aliases(values: Iterable[str]) -> list[str]:
    """Undoes :func:`encoded_aliases`."""
    return [re.sub("%(2F|25)", lambda found: chr(int(found[1], 16)), value) for value in values]


def tags(argument: str, value: Iterable[str] | str | None) -> list[str]:
    found = words(argument, value)
    return list(_legal(argument, records.check_tags, found))


def words(argument: str, value: Iterable[str] | str | None, *, empty: bool = False) -> list[str]:
    """Returns a list of texts without repetitions; a single text is a list of one."""
    given: Any = value
    if given is None:
        return []
    if isinstance(given, str):
        given = [given]
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"{argument} must be a list of texts, not {type(given).__name__}")
    found = [text(argument, word, empty=empty) for word in given]
    return list(dict.fromkeys(found))


def description(argument: str, value: str | None) -> str:
    return (
        ""
        if value is None
        else _legal(argument, records.check_description, text(argument, value, empty=True))
    )


def seconds(argument: str, value: timedelta) -> int:
    given: Any = value
    if not isinstance(given, timedelta):
        raise TypeError(
            f"{argument} must be a timedelta, None or ArtifactTTL.INHERIT, not {type(given).__name__}"
        )
    if given.total_seconds() <= 0:
        raise ValueError(f"{argument}={given} must be more than 0 seconds")
    return max(1, round(given.total_seconds()))


def uri(argument: str, value: str) -> str:
    """Checks the form of a URI; whether it leads to anything is not checked."""
    return _legal(argument, check_uri, text(argument, value))


def number(argument: str, value: int) -> int:
    given: Any = value
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(f"{argument} must be a number, not {type(given).__name__}")
    if given < 1:
        raise ValueError(f"{argument}={given} must be at least 1")
    return given


def distributed_id(argument: str, value: str) -> bytes:
    """Returns the id as the volume has it: `/`, `%` and a dot at its beginning are percent-encoded."""
    given = text(argument, value)
    encoded = re.sub(r"[/%]|^\.", lambda found: f"%{ord(found[0]):02X}", given)
    try:
        return names.check_distributed_id(os.fsencode(encoded))
    except InvalidName as error:
        raise ValueError(f"{argument}={given!r}: {error.rule}") from None


def decoded_id(value: bytes) -> str:
    """Undoes :func:`distributed_id`."""
    return re.sub(r"%(2F|25|2E)", lambda found: chr(int(found[1], 16)), os.fsdecode(value))


def _legal(argument: str, check: Callable[[A], R], value: A) -> R:
    try:
        return check(value)
    except InvalidCommand as error:
        raise ValueError(f"{argument}: {error}") from None
