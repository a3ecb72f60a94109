"""Metadata as JSON: wandb's conversions, so that what its users pass is taken.

Owns what becomes of values that JSON has not: NaN is null; numpy scalars, arrays and tensors are numbers and
lists; dates are ISO 8601; sets and tuples are lists; enums their names; dataclasses and slices objects;
functions and classes their names; a path, a UUID or a device the text that it gives of itself. What has none
is refused, since its address would mean nothing to who reads it, and so is infinity. Pure; knows numpy and
others only by the methods that their values have.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

from artfs.catalog import records
from artfs.errors import InvalidCommand


def converted(argument: str, value: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Returns metadata as a JSON object of its own. Text is JSON.

    Raises TypeError and ValueError, which name the argument and the key.
    """
    given: Any = value
    if given is None or given == "":
        return {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise ValueError(f"{argument} is text that is not JSON: {error}") from None
    if not isinstance(given, Mapping):
        raise TypeError(f"{argument} is a dictionary, not {type(given).__name__}")
    try:
        found = _object(given, argument)
        return records.check_metadata(found)
    except InvalidCommand as error:
        raise ValueError(f"{argument}: {error}") from None
    except RecursionError:
        raise ValueError(f"{argument} is nested too deeply, or holds itself") from None


def _object(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    return {_key(key, where): _value(item, f"{where}[{key!r}]") for key, item in value.items()}


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, enum.Enum):
        return key.name
    return json.dumps(key) if isinstance(key, bool | int | float | None) else _text(key, f"a key of {where}")


def _value(value: Any, where: str) -> Any:
    """Converts one value; the order of the questions matters, as some types are others too."""
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, str | bool):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _float(float(value), where)
    if isinstance(value, Mapping):
        return _object(value, where)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Sequence | Set):
        return [_value(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _object(fields, where)
    # numpy's scalars and arrays, and tensors of torch and others.
    for name in ("tolist", "item"):
        convert: Callable[[], Any] | None = getattr(value, name, None)
        if callable(convert) and not isinstance(value, type):
            plain = convert()
            if type(plain) is not type(value):
                return _value(plain, where)
    if isinstance(value, slice):
        parts = {"slice_start": value.start, "slice_step": value.step, "slice_stop": value.stop}
        return _object(parts, where)  # as wandb has it
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return _text(value, where)


def _text(value: Any, where: str) -> str:
    """Returns what a value says of itself, unless that is no more than where it lies in memory.

    Raises TypeError.
    """
    kind, text = type(value), str(value)
    if kind.__module__ == "builtins" or isinstance(value, Iterator) or " at 0x" in text:
        raise TypeError(
            f"{where} is of the type {kind.__qualname__}, which JSON has not:"
            " use text, a number, a list or a dictionary"
        )
    return text


def _float(value: float, where: str) -> float | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ValueError(f"{where} is infinite, and JSON has no such number")
    return value
