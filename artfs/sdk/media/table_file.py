"""The layout of ``NAME.table.json``: the types of columns, and cells.

Owns that dates are milliseconds since 1970, that columns of arrays are one ``.npz`` file each, and that short
arrays are lists.
"""

from __future__ import annotations

import datetime
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from artfs.sdk.json_values import checked_value
from artfs.sdk.media import column_types
from artfs.sdk.media.column_types import (
    NUMBER,
    TIMESTAMP,
    UNKNOWN,
    Column,
    Dict,
    ListOf,
    NDArray,
    Type,
    Union,
)
from artfs.sdk.media.value import Files, MediaValue, NewFiles, value_in

_EMBEDDING = 150
"""Numbers of an array of one dimension that is written as a list, as an embedding."""


def stored_types(
    types: Mapping[Column, Type], array_of: Callable[[Column], Any], artifact: NewFiles
) -> tuple[Dict, set[int]]:
    """Adds the columns of arrays to an artifact; returns all types, and the places of these columns."""
    stored, elsewhere = dict(types), set()
    for at, (column, of) in enumerate(types.items()):
        array = next((member for member in _members(of) if isinstance(member, NDArray)), None)
        if array is None:
            continue
        if len(array.shape) == 1 and array.shape[0] <= _EMBEDDING:
            stored[column] = ListOf("list", NUMBER, array.shape[0])
        else:
            path = _add_array(column, array_of(column), artifact)
            stored[column] = _replaced(of, array, NDArray("ndarray", array.shape, (path, str(column))))
            elsewhere.add(at)
    return Dict("typedDict", stored), elsewhere


def _add_array(column: Column, array: Any, artifact: NewFiles) -> str:
    import numpy

    buffer = io.BytesIO()
    numpy.savez_compressed(buffer, **{str(column): array})
    data = buffer.getvalue()
    return artifact.add(data, f"media/serialized_data/{hashlib.sha256(data).hexdigest()[:20]}.npz").path


def read(found: Mapping[str, Any], artifact: Files) -> tuple[dict[Column, Type], Iterator[list[Any]]]:
    """Returns the types of the columns, none if the file has none, and the rows."""
    types: dict[Column, Type] = {}
    dates: set[int] = set()
    arrays: dict[int, Any] = {}
    if (typed := found.get("column_types")) is not None:
        stored = typed.get("params", {}).get("type_map", {})
        for at, column in enumerate(found["columns"]):
            of = column_types.type_in(stored[str(column)], artifact) if str(column) in stored else UNKNOWN
            for member in _members(of):
                if member == TIMESTAMP:
                    dates.add(at)
                elif isinstance(member, NDArray) and member.stored is not None:
                    arrays[at] = _read_array(artifact, *member.stored)
                    of = _replaced(of, member, NDArray("ndarray", member.shape))
            types[column] = of
    rows = (
        [
            arrays[at][number] if at in arrays else _cell(cell, artifact, is_date=at in dates)
            for at, cell in enumerate(row)
        ]
        for number, row in enumerate(found["data"])
    )
    return types, rows


def _read_array(artifact: Files, path: str, key: str) -> Any:
    import numpy

    with artifact.open(path) as file:
        return numpy.load(io.BytesIO(file.read()), allow_pickle=False)[key]


def _members(of: Type) -> tuple[Type, ...]:
    return of.allowed if isinstance(of, Union) else (of,)


def _replaced(of: Type, old: Type, new: Type) -> Type:
    if not isinstance(of, Union):
        return new
    return column_types.union(new if member is old else member for member in of.allowed)


def cell_to_json(value: Any, artifact: NewFiles) -> Any:
    """Returns the value of a cell for JSON; NaN and infinity stay, as Python's JSON has them."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, MediaValue):
        return value.to_json(artifact)
    if isinstance(value, datetime.date):
        return _milliseconds(value)
    if isinstance(value, dict):
        return {str(key): cell_to_json(item, artifact) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [cell_to_json(item, artifact) for item in value]
    if isinstance(value, Decimal):
        return float(value)
    if getattr(getattr(value, "dtype", None), "kind", None) == "M":
        return int(value.astype("datetime64[ms]").astype(int))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return cell_to_json(value.tolist(), artifact)
    return checked_value("data", value)


def _milliseconds(value: datetime.date) -> int:
    """Returns a date, or a time, in milliseconds since 1970; without a zone it is UTC, as wandb has it."""
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)  # noqa: DTZ001  # the zone follows
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return int(value.timestamp() * 1000)


def _cell(cell: Any, artifact: Files, *, is_date: bool) -> Any:
    """Returns the value that a cell holds; dates have the zone UTC."""
    if is_date and isinstance(cell, int | float):
        return datetime.datetime.fromtimestamp(cell / 1000, tz=datetime.UTC)
    return value_in(cell, artifact)
