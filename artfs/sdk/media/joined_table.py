"""Two tables side by side, in ``NAME.joined-table.json``."""

from __future__ import annotations

from typing import Any, Self

from artfs.sdk.media.keys import content_name
from artfs.sdk.media.table import Table
from artfs.sdk.media.value import Files, MediaValue, NewFiles


class JoinedTable(MediaValue):
    """Two tables, and the column by which their rows belong together.

    Each is a table, or the path of one in the artifact. `join_key` is a column of both, or a list of one of
    each.

    Example:
        >>> artifact.add(artfs.JoinedTable("labels.table.json", predictions, "id"), "joined")
    """

    kind = "joined-table"

    def __init__(self, table1: Table | str, table2: Table | str, join_key: str | list[str]) -> None:
        if not isinstance(join_key, str) and len(join_key) != 2:
            raise ValueError(f"join_key={join_key!r} must be a column or a list of two")
        for table in (table1, table2):
            if not isinstance(table, str | Table):
                raise TypeError(f"a table must be a Table, or the path of one, not {type(table).__name__}")
        self._table1, self._table2, self._join_key = table1, table2, join_key

    def to_json(self, artifact: NewFiles) -> dict[str, Any]:
        paths = [
            table if isinstance(table, str) else _added(table, number, artifact)
            for number, table in enumerate((self._table1, self._table2), 1)
        ]
        return {"_type": self.kind, "table1": paths[0], "table2": paths[1], "join_key": self._join_key}

    @classmethod
    def from_json(cls, found: dict[str, Any], artifact: Files) -> Self:
        return cls(artifact.get(found["table1"]), artifact.get(found["table2"]), found["join_key"])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JoinedTable):
            return NotImplemented
        return (self._table1, self._table2, self._join_key) == (other._table1, other._table2, other._join_key)

    __hash__ = None  # type: ignore[assignment]  # tables change


def _added(table: Table, number: int, artifact: NewFiles) -> str:
    return artifact.add(table, content_name(table, artifact, f"t{number}")).path
