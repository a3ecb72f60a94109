"""How changes of labels apply if the labels were changed meanwhile.

Must not know where labels are kept. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

ADDING: Mapping[str, Any] = MappingProxyType({"aliases": (), "tags": (), "metadata": {}})
"""The `since` of changes that remove no alias, no tag and no key of the metadata."""

_WORDS = ("aliases", "tags")


def merged(changes: Mapping[str, Any], since: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what to set so that `changes`, which were made to `since`, apply to `now`.

    Aliases, tags and keys of the metadata are added, changed and removed one by one. Other labels, and those
    that `since` lacks, are replaced.
    """
    found = dict(changes)
    for key in _WORDS:
        if key in changes and key in since:
            found[key] = _words(changes[key], since[key], now[key])
    if "metadata" in changes and "metadata" in since:
        found["metadata"] = _metadata(changes["metadata"], since["metadata"], now["metadata"])
    return found


def _words(wanted: Iterable[str], was: Iterable[str], now: Iterable[str]) -> list[str]:
    wanted, was = list(wanted), set(was)
    stay = [word for word in now if word in wanted or word not in was]
    return stay + [word for word in wanted if word not in was and word not in stay]


def _metadata(wanted: Mapping[str, Any], was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    stay = {key: value for key, value in now.items() if key in wanted or key not in was}
    return stay | {key: value for key, value in wanted.items() if key not in was or was[key] != value}


__all__ = ["ADDING", "merged"]
