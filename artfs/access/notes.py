"""What was changed of the notes of a version, and what that is to notes which others changed meanwhile.

Owns the merge. Knows nothing of where notes are kept. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def merged(changes: Mapping[str, Any], since: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what to set so that `changes`, made to what was read as `since`, are made to what is `now`.

    Tags and the keys of the metadata are added, changed and removed one by one; all else, and what `since`
    does not have, is replaced.
    """
    found = dict(changes)
    if "tags" in changes and "tags" in since:
        found["tags"] = _tags(changes["tags"], since["tags"], now["tags"])
    if "metadata" in changes and "metadata" in since:
        found["metadata"] = _metadata(changes["metadata"], since["metadata"], now["metadata"])
    return found


def _tags(wanted: Iterable[str], was: Iterable[str], now: Iterable[str]) -> list[str]:
    wanted, was = list(wanted), set(was)
    stay = [tag for tag in now if tag in wanted or tag not in was]
    return stay + [tag for tag in wanted if tag not in was and tag not in stay]


def _metadata(wanted: Mapping[str, Any], was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    stay = {key: value for key, value in now.items() if key in wanted or key not in was}
    return stay | {key: value for key, value in wanted.items() if key not in was or was[key] != value}


__all__ = ["merged"]
