"""Cells of a table that name a row of one: primary keys, foreign keys, and indexes of rows.

Owns their types. The tables that keys lead to are added to the artifact together with the table that has
them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from artfs.sdk.media import column_types
from artfs.sdk.media.column_types import NUMBER, STRING, Owned, Type
from artfs.sdk.media.value import NewFiles, dumped

if TYPE_CHECKING:
    from artfs.sdk.media.table import Table


class TableKey(str):
    """The text of a key, which knows its table and column."""

    table: Table
    column: str

    @classmethod
    def of(cls, text: str, table: Table, column: str) -> TableKey:
        key = cls(text)
        key.table, key.column = table, column
        return key


class TableIndex(int):
    """The number of a row, which knows its table."""

    table: Table

    @classmethod
    def of(cls, number: int, table: Table) -> TableIndex:
        index = cls(number)
        index.table = table
        return index

    def get_row(self) -> dict[Any, Any]:
        """Returns the row by column."""
        return dict(zip(self.table.columns, self.table.data[self], strict=True))


@dataclass(frozen=True)
class PrimaryKey(Type):
    def taking(self, other: Type) -> Type | None:
        return self if other == STRING or isinstance(other, PrimaryKey) else None


@dataclass(frozen=True)
class ForeignKey(Type):
    table: Table = field(compare=False)
    column: str

    def taking(self, other: Type) -> Type | None:
        same = isinstance(other, ForeignKey) and other.table is self.table and other.column == self.column
        return self if same or other == STRING else None

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {"table": _added(self.table, artifact), "col_name": self.column}


@dataclass(frozen=True)
class ForeignIndex(Type):
    table: Table = field(compare=False)

    def taking(self, other: Type) -> Type | None:
        same = isinstance(other, ForeignIndex) and other.table is self.table
        return self if same or other == NUMBER else None

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {"table": _added(self.table, artifact)}


def content_name(table: Table, artifact: NewFiles, prefix: str) -> str:
    """Returns a name that is a hash of the table, so that equal tables make equal artifacts."""
    _, data = dumped(table, "", artifact)
    return f"{prefix}_{hashlib.sha256(data).hexdigest()[:20]}"


def _added(table: Table, artifact: NewFiles) -> str:
    return artifact.add(table, content_name(table, artifact, "media/tables/t")).path


def _of_key(key: TableKey) -> Type:
    return ForeignKey("foreignKey", key.table, key.column)


def _of_index(index: TableIndex) -> Type:
    return ForeignIndex("foreignIndex", index.table)


PRIMARY_KEY = PrimaryKey("primaryKey")
column_types.register_class(TableKey, Owned(_of_key, STRING))
column_types.register_class(TableIndex, Owned(_of_index, NUMBER))
for name in ("primaryKey", "wandb.TablePrimaryKey"):
    column_types.register(name, lambda _params, _artifact: PRIMARY_KEY)
for name in ("foreignKey", "wandb.TableForeignKey"):
    column_types.register(
        name,
        lambda params, artifact: ForeignKey("foreignKey", artifact.get(params["table"]), params["col_name"]),
    )
for name in ("foreignIndex", "wandb.TableForeignIndex"):
    column_types.register(
        name, lambda params, artifact: ForeignIndex("foreignIndex", artifact.get(params["table"]))
    )
