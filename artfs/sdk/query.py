"""wandb's filters and orders for lists: MongoDB's comparisons over dictionaries.

Owns which operators there are. Pure; any thread.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_MISSING = object()


def _equal(found: Any, wanted: Any) -> bool:
    """Compares; a list is equal to each of its items, too, as for MongoDB."""
    if found is _MISSING:
        return wanted is None
    return bool(found == wanted) or (isinstance(found, list | tuple) and wanted in found)


def _ordered(compare: Callable[[Any, Any], bool], found: Any, wanted: Any) -> bool:
    try:
        return bool(compare(found, wanted))
    except TypeError:
        return False


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda found, wanted: not _equal(found, wanted),
    "$gt": lambda found, wanted: _ordered(operator.gt, found, wanted),
    "$gte": lambda found, wanted: _ordered(operator.ge, found, wanted),
    "$lt": lambda found, wanted: _ordered(operator.lt, found, wanted),
    "$lte": lambda found, wanted: _ordered(operator.le, found, wanted),
    "$in": lambda found, wanted: any(_equal(found, one) for one in wanted),
    "$nin": lambda found, wanted: not any(_equal(found, one) for one in wanted),
    "$exists": lambda found, wanted: (found is not _MISSING) == bool(wanted),
    "$regex": lambda found, wanted: isinstance(found, str) and re.search(wanted, found) is not None,
}


def matches(line: Mapping[str, Any], filters: Mapping[str, Any] | None) -> bool:
    """Tells whether a dictionary matches `filters`. Keys with dots lead into it.

    Raises ValueError for an unknown operator.
    """
    return all(_holds(line, key, wanted) for key, wanted in (filters or {}).items())


def _holds(line: Mapping[str, Any], key: str, wanted: Any) -> bool:
    if key == "$and":
        return all(matches(line, one) for one in wanted)
    if key == "$or":
        return any(matches(line, one) for one in wanted)
    if key == "$nor":
        return not any(matches(line, one) for one in wanted)
    if key.startswith("$"):
        raise _unknown(key)
    return _agrees(_value(line, key), wanted)


def _agrees(found: Any, wanted: Any) -> bool:
    if not (isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted)):
        return _equal(found, wanted)
    for name, operand in wanted.items():
        if name == "$not":
            if _agrees(found, operand):
                return False
        elif name not in _COMPARISONS:
            raise _unknown(name)
        elif not _COMPARISONS[name](found, operand):
            return False
    return True


def _unknown(name: str) -> ValueError:
    known = ", ".join(["$and", "$or", "$nor", "$not", *_COMPARISONS])
    return ValueError(f"filters: there is no operator {name!r}; known are {known}")


def _value(line: Any, key: str) -> Any:
    """Returns what is at a key with dots, which may be parts of a key, too, as in ``config.model.lr``."""
    if isinstance(line, Mapping):
        if key in line:
            return line[key]
        parts = key.split(".")
        for end in range(len(parts) - 1, 0, -1):
            head = ".".join(parts[:end])
            if head in line:
                return _value(line[head], ".".join(parts[end:]))
    return _MISSING


def ordered(
    lines: Iterable[Mapping[str, Any]], order: str | None, known: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """Sorts by a key, ``+name`` or ``-name``; `known` maps wandb's keys to those of a line.

    A key that begins with one of those and a dot leads into it. Lines without the key are last. Raises
    ValueError for an unknown key.
    """
    found = list(lines)
    if order is None:
        return found
    name = order.lstrip("+-")
    head, dot, rest = name.partition(".")
    if head not in known:
        raise ValueError(f"order={order!r}: known are {', '.join(known)}, with + or - before it")
    key = f"{known[head]}{dot}{rest}"
    having = [line for line in found if _comparable(_value(line, key))]
    without = [line for line in found if not _comparable(_value(line, key))]
    having.sort(key=lambda line: _rank(_value(line, key)), reverse=order.startswith("-"))
    return having + without


def _comparable(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _rank(value: Any) -> tuple[int, Any]:
    return (1, value) if isinstance(value, str) else (0, value)
