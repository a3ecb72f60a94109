"""How the values of a table stand in its JSON: dates as milliseconds since 1970, all else as what it says."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

from artfs.sdk import metadata
from artfs.sdk.media.value import Files, MediaValue, NewFiles, value_in


def to_json(value: Any, artifact: NewFiles) -> Any:
    """Returns a value as JSON has it; numbers that are none, or infinite, as Python's JSON has them."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, MediaValue):
        return value.to_json(artifact)
    if isinstance(value, datetime.date):
        return _milliseconds(value)
    if isinstance(value, dict):
        return {str(key): to_json(item, artifact) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item, artifact) for item in value]
    if isinstance(value, Decimal):
        return float(value)
    if getattr(getattr(value, "dtype", None), "kind", None) == "M":
        return int(value.astype("datetime64[ms]").astype(int))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return to_json(value.tolist(), artifact)
    return metadata.converted("data", {"value": value})["value"]


def _milliseconds(value: datetime.date) -> int:
    """Returns a date, or a time, in milliseconds since 1970; without a zone it is UTC, as wandb has it."""
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)  # noqa: DTZ001  # the zone follows
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return int(value.timestamp() * 1000)


def from_json(cell: Any, artifact: Files, *, is_date: bool) -> Any:
    """Returns the value that a cell holds; dates have the zone UTC."""
    if is_date and isinstance(cell, int | float):
        return datetime.datetime.fromtimestamp(cell / 1000, tz=datetime.UTC)
    return value_in(cell, artifact)
