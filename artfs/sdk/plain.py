"""Values that programs hand to a run's config or summary, as values of JSON.

Owns the conversion, which takes everything: what JSON has no word for becomes text. Pure; any thread.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

_DEEPEST = 50
"""Levels of nesting; what lies deeper becomes text."""


def friendly(value: Any, depth: int = 0) -> Any:
    """Returns a value of dictionaries, lists, texts, numbers, booleans and None alone.

    Tuples and sets become lists; numpy's scalars and arrays, and tensors, become numbers and lists; all else
    becomes what ``str`` makes of it.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if depth < _DEEPEST:
        below = depth + 1
        if isinstance(value, Mapping):
            return {str(key): friendly(item, below) for key, item in value.items()}
        if isinstance(value, Sequence | Set) and not isinstance(
            value, bytes | bytearray | memoryview | range
        ):
            return [friendly(item, below) for item in value]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return friendly(fields, depth)
        if (plain := _of_array(value)) is not value:
            return friendly(plain, below)
    return str(value)


def _of_array(value: Any) -> Any:
    """Asks numpy's scalars and arrays, and tensors, for what they hold; returns all else as it is."""
    convert = getattr(value, "tolist", None)
    if isinstance(value, type) or not callable(convert):
        return value
    try:
        return convert()
    except (TypeError, ValueError, RuntimeError):  # as of a tensor on a device that is gone
        return value


def storable(value: Any) -> Any:
    """Returns a friendly value without the numbers that JSON lacks: these become text, as wandb has them.

    Lone surrogates, which no UTF-8 can hold, are escaped.
    """
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
