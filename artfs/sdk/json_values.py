"""Values of Python as values of JSON, converted as wandb does.

Owns both conversions. Metadata is strict: NaN is null, dates are ISO 8601, enums, functions and classes their
names, dataclasses and slices objects; infinity is refused, and so is a value whose text would be no more than
its address. Config and summary take everything: what JSON has no word for becomes text. Both make numbers and
lists of numpy's scalars and arrays and of tensors, which they know only by their methods. Pure; any thread.
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

_DEEPEST = 50
"""Levels of nesting in a config; what is deeper becomes text."""


def checked_metadata(argument: str, value: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Returns metadata as a new JSON object. Text is parsed as JSON.

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
        raise TypeError(f"{argument} must be a dictionary, not {type(given).__name__}")
    try:
        return records.check_metadata(_object(given, argument))
    except InvalidCommand as error:
        raise ValueError(f"{argument}: {error}") from None
    except RecursionError:
        raise ValueError(f"{argument} is nested too deeply, or holds itself") from None


def checked_value(argument: str, value: Any) -> Any:
    """Returns one value as metadata has it. Raises what :func:`checked_metadata` does."""
    return checked_metadata(argument, {"value": value})["value"]


def _object(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    return {_key(key, where): _value(item, f"{where}[{key!r}]") for key, item in value.items()}


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, enum.Enum):
        return key.name
    return json.dumps(key) if isinstance(key, bool | int | float | None) else _text(key, f"a key of {where}")


def _value(value: Any, where: str) -> Any:
    """Converts one value; the order of the checks matters, as some types are subclasses of others."""
    if isinstance(value, enum.Enum):
        return value.name
    if _is_scalar(value):
        value = _scalar(value)
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(f"{where} is infinite, and JSON has no such number")
        return None if isinstance(value, float) and math.isnan(value) else value
    if isinstance(value, Mapping):
        return _object(value, where)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Sequence | Set):
        return [_value(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if _is_dataclass(value):
        return _object(_fields(value), where)
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
    """Returns the text of a value. Raises TypeError where that is no more than its address in memory."""
    kind, text = type(value), str(value)
    if kind.__module__ == "builtins" or isinstance(value, Iterator) or " at 0x" in text:
        raise TypeError(
            f"{where} is of the type {kind.__qualname__}, which JSON has not:"
            " use text, a number, a list or a dictionary"
        )
    return text


def friendly(value: Any, depth: int = 0) -> Any:
    """Returns a value of dictionaries, lists, texts, numbers, booleans and None alone; refuses nothing.

    Numbers may be infinite or none; :func:`storable` makes text of them.
    """
    if _is_scalar(value):
        return _scalar(value)
    if depth < _DEEPEST:
        below = depth + 1
        if isinstance(value, Mapping):
            return {str(key): friendly(item, below) for key, item in value.items()}
        no_list = isinstance(value, bytes | bytearray | memoryview | range)
        if isinstance(value, Sequence | Set) and not no_list:
            return [friendly(item, below) for item in value]
        if _is_dataclass(value):
            return friendly(_fields(value), depth)
        convert = getattr(value, "tolist", None)
        if callable(convert) and not isinstance(value, type):
            try:
                return friendly(convert(), below)
            except (TypeError, ValueError, RuntimeError):  # as of a tensor on a device that is gone
                pass
    return str(value)


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


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _scalar(value: Any) -> Any:
    """Returns a scalar of a subclass, like an enum's or numpy's, as one of the class itself."""
    kinds = (bool, str, int, float)
    return value if value is None else next(kind(value) for kind in kinds if isinstance(value, kind))


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
