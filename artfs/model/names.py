"""The rules for names of collections, aliases, versions, distributed ids, and entries of users' trees.

Must not know what exists: a name is legal or not by itself. ``latest`` is a legal alias here; the catalog
refuses to set it, since it is computed. Pure functions: any thread may call them.
"""

from __future__ import annotations

import re
import secrets

from artfs.errors import InvalidName

CONTROL = b".artfs"
"""The control directory of a tree; no entry at any level of a tree may have this name."""

PRIVATE = b".artfs@"
"""Names with this prefix are reserved, at every level of every tree."""

MAX_NAME = 255
"""The longest file name in bytes: NAME_MAX of Linux. A longer one is ENAMETOOLONG at a mount, not EINVAL."""

LATEST = "latest"
PENDING = "pending"
_PRIVATE, _PRIVATE_BYTES = b"sdk-", 8

MAX_ALIAS = 128
"""The longest alias in bytes."""

_COLLECTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LIKE_VERSION = re.compile(r"v[0-9]+")
# 18 digits keep a number within 64 bits, and int() below its limit of digits.
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,17})")


def check_collection(name: str) -> str:
    """Returns the name if a collection may have it, else raises InvalidName."""
    if not _COLLECTION.fullmatch(name):
        rule = "use 1 to 128 letters, digits, '_', '.' and '-', and begin with a letter, a digit or '_'"
        raise InvalidName("a collection", name, rule)
    return name


def check_alias(name: str) -> str:
    """Returns the name if an alias may have it, else raises InvalidName.

    Legal is any file name of at most :data:`MAX_ALIAS` bytes of UTF-8 that has no other meaning.
    """
    try:
        data = name.encode()
    except UnicodeEncodeError:
        raise InvalidName("an alias", name, "an alias is valid UTF-8") from None
    _check_file_name("an alias", name, data)
    if len(data) > MAX_ALIAS:
        raise InvalidName("an alias", name, f"an alias has at most {MAX_ALIAS} bytes")
    if name.startswith("."):
        raise InvalidName("an alias", name, "it must not begin with a dot")
    if name == PENDING:
        raise InvalidName("an alias", name, "the name is taken by the directory of pending versions")
    if _LIKE_VERSION.fullmatch(name):
        raise InvalidName("an alias", name, "v and digits name versions")
    return name


def check_distributed_id(name: bytes) -> bytes:
    """Returns the name if a pending version may have it, else raises InvalidName."""
    _check_file_name("a pending version", name, name)
    if name.startswith(b"."):
        raise InvalidName("a pending version", name, "it must not begin with a dot")
    return name


def private_id() -> bytes:
    """Returns a random distributed id for a private pending version of a process."""
    return _PRIVATE + secrets.token_hex(_PRIVATE_BYTES).encode()


def is_private(distributed_id: bytes) -> bool:
    """Tells whether an id looks like one of :func:`private_id`."""
    return distributed_id.startswith(_PRIVATE) and len(distributed_id) == len(_PRIVATE) + 2 * _PRIVATE_BYTES


def check_entry_name(name: bytes) -> bytes:
    """Returns the name if an entry of a user's tree may have it, else raises InvalidName."""
    _check_file_name("an entry", name, name)
    if name in (b".", b".."):
        raise InvalidName("an entry", name, "'.' and '..' are not names")
    if is_reserved(name):
        raise InvalidName("an entry", name, ".artfs and names that begin with .artfs@ are reserved")
    return name


def is_reserved(name: bytes) -> bool:
    """Tells whether no entry may have this name, at any level of a tree."""
    return name == CONTROL or name.startswith(PRIVATE)


def version_name(number: int) -> str:
    """Names the version of a number: ``v3``."""
    if number < 0:
        raise ValueError(f"{number} is not the number of a version")
    return f"v{number}"


def parse_version(name: str) -> int | None:
    """Returns the number in a version's name; None for anything else, such as ``v01``."""
    match = _VERSION.fullmatch(name)
    return int(match[1]) if match else None


def split_reference(ref: str) -> tuple[str, str]:
    """Splits ``other:v3`` into collection and version or alias; the collection of ``v3`` is empty.

    It splits at the first colon: an alias may have colons, the name of a collection has none.
    """
    collection, colon, word = ref.partition(":")
    return (collection, word) if colon else ("", ref)


def _check_file_name(what: str, name: bytes | str, data: bytes) -> None:
    if not data:
        raise InvalidName(what, name, "a name is not empty")
    if b"/" in data or b"\0" in data:
        raise InvalidName(what, name, "a name can't have '/' or NUL")
    if len(data) > MAX_NAME:
        raise InvalidName(what, name, f"a name has at most {MAX_NAME} bytes")
