"""Tables: rows of values, in ``NAME.table.json``.

Owns the rows, and the check of each against the types of the columns. The layout of the file is in
:mod:`~artfs.sdk.media.table_file`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from artfs.sdk.media import column_types, table_file
from artfs.sdk.media.column_types import ANY, UNKNOWN, Column, Type
from artfs.sdk.media.keys import PRIMARY_KEY, ForeignIndex, ForeignKey, PrimaryKey, TableIndex, TableKey
from artfs.sdk.media.value import Files, MediaValue, NewFiles

if TYPE_CHECKING:
    import numpy
    import pandas


class Table(MediaValue):
    """A table of values and media, as ``wandb.Table`` is.

    `data` is a list of rows, an array of numpy, or a frame of pandas, whose columns are taken; so are those
    of `dataframe`. Each column has a type: that of `dtype` (a class, or a list with one for each column),
    else that of its first value. With `optional` a cell may be None. A row of other types is a TypeError,
    unless `allow_mixed_types`.

    Example:
        >>> table = artfs.Table(columns=["id", "label"], data=[[1, "cat"], [2, "dog"]])
        >>> artifact.add(table, "labels")  # labels.table.json
    """

    kind = "table"
    MAX_ROWS = 10_000
    #: An artifact takes tables of at most so many rows; a larger one is a ValueError.
    MAX_ARTIFACT_ROWS = 200_000

    def __init__(
        self,
        columns: Sequence[Column] | None = None,
        data: Sequence[Iterable[Any]] | numpy.ndarray[Any, Any] | pandas.DataFrame | None = None,
        rows: Sequence[Iterable[Any]] | None = None,
        dataframe: pandas.DataFrame | None = None,
        dtype: Any = None,
        optional: bool | list[bool] = True,
        allow_mixed_types: bool = False,
        log_mode: Literal["IMMUTABLE", "MUTABLE", "INCREMENTAL"] | None = "IMMUTABLE",
    ) -> None:
        if log_mode not in ("IMMUTABLE", "MUTABLE", "INCREMENTAL"):
            raise ValueError(f"log_mode={log_mode!r} is none of IMMUTABLE, MUTABLE, INCREMENTAL")
        self.log_mode = log_mode
        given: Any = dataframe if dataframe is not None else data if data is not None else rows
        if given is not None and hasattr(given, "columns"):
            columns = list(given.columns)
            given = list(zip(*(given[column].values for column in columns), strict=True))
        if isinstance(columns, str):
            raise TypeError(f"columns={columns!r} must be a list of names, not text")
        columns = ["Input", "Output", "Expected"] if columns is None else list(columns)
        if not all(type(column) in (str, int) for column in columns):
            raise TypeError(f"columns={columns!r}: names must be text or integers")
        if len(set(columns)) < len(columns):
            raise ValueError(f"columns={columns!r}: a name is there twice")
        if isinstance(given, str | bytes | dict):
            raise TypeError(f"data must be a list of rows, not {type(given).__name__}")
        self.columns: list[Column] = columns
        self.data: list[list[Any]] = []
        self._types: dict[Column, Type] = {}
        dtypes = self._for_each("dtype", ANY if allow_mixed_types else UNKNOWN if dtype is None else dtype)
        for column, of, may_be_none in zip(
            columns, dtypes, self._for_each("optional", optional), strict=True
        ):
            self.cast(column, of, may_be_none)
        for row in given if given is not None else ():
            self.add_data(*row)

    def _for_each(self, argument: str, given: Any) -> list[Any]:
        if not isinstance(given, list):
            return [given] * len(self.columns)
        if len(given) != len(self.columns):
            raise ValueError(f"{argument} has {len(given)} items for {len(self.columns)} columns")
        return given

    # -- rows

    def add_data(self, *data: Any) -> None:
        """Adds a row, with a value for each column.

        Raises ValueError for another number of values, TypeError for one that its column doesn't take.

        Example:
            >>> table.add_data(3, "bird")
        """
        if len(data) != len(self.columns):
            raise ValueError(f"the row has {len(data)} values, and the table {len(self.columns)} columns")
        types = dict(self._types)
        for column, value in zip(self.columns, data, strict=True):
            if isinstance(value, TableKey | TableIndex) and not isinstance(types[column], PrimaryKey):
                types[column] = self._as_key(column, column_types.type_of(value))
            else:
                types[column] = self._assigned(column, types[column], value)
        self._types = types
        self.data.append(
            [self._wrapped(column, value) for column, value in zip(self.columns, data, strict=True)]
        )

    def add_row(self, *row: Any) -> None:
        """Adds a row: wandb's older name for :meth:`add_data`.

        Example:
            >>> table.add_row(3, "bird")
        """
        self.add_data(*row)

    @staticmethod
    def _assigned(column: Column, of: Type, value: Any) -> Type:
        taken = of.assigned(value)
        if taken is None:
            found = column_types.type_of(value)
            raise TypeError(
                f"column {column!r} holds {of}, and can't take {value!r}, which is {found};"
                " allow_mixed_types=True takes anything"
            )
        return taken

    def _as_key(self, column: Column, of: Type) -> Type:
        """Returns the type of a column that gets keys; the values that it has must be keys."""
        for row in self.data:
            of = self._assigned(column, of, row[self.columns.index(column)])
        return of

    def cast(self, col_name: Column, dtype: Any, optional: bool = False) -> None:
        """Sets the type of a column. Raises TypeError if it has a value of another type.

        Example:
            >>> table.cast("id", float, optional=True)
        """
        self._must_have(col_name)
        of = column_types.declared(dtype)
        if isinstance(of, PrimaryKey | ForeignKey | ForeignIndex):
            if optional:
                raise ValueError(f"column {col_name!r} holds keys, and a key can't be missing")
            if isinstance(of, PrimaryKey) and any(
                isinstance(other, PrimaryKey) for column, other in self._types.items() if column != col_name
            ):
                raise ValueError(f"column {col_name!r} can't be a primary key: the table has one")
            if not isinstance(of, PrimaryKey) and of.table is self:
                raise ValueError(f"column {col_name!r} can't lead to the table that it is in")
        if optional:
            of = column_types.optional(of)
        self._types[col_name] = self._as_key(col_name, of)
        at = self.columns.index(col_name)
        for row in self.data:
            row[at] = self._wrapped(col_name, row[at])

    def set_pk(self, col_name: Column) -> None:
        """Makes a column of text the primary key.

        Example:
            >>> table.set_pk("label")
        """
        self.cast(col_name, PRIMARY_KEY)

    def set_fk(self, col_name: Column, table: Table, table_col: str) -> None:
        """Makes a column of text lead to a column of another table.

        Example:
            >>> predictions.set_fk("image_id", images, "id")
        """
        table._must_have(table_col)
        self.cast(col_name, ForeignKey("foreignKey", table, table_col))

    def _wrapped(self, column: Column, value: Any) -> Any:
        match self._types[column]:
            case PrimaryKey():
                return TableKey.of(value, self, str(column))
            case ForeignKey() as key if not isinstance(value, TableKey):
                return TableKey.of(value, key.table, key.column)
            case ForeignIndex() as index if not isinstance(value, TableIndex):
                return TableIndex.of(value, index.table)
        return value

    def _must_have(self, column: Column) -> None:
        if column not in self.columns:
            raise ValueError(f"the table has no column {column!r}; there are {self.columns}")

    # -- columns

    def add_column(
        self, name: str, data: Sequence[Any] | numpy.ndarray[Any, Any], optional: bool = False
    ) -> None:
        """Adds a column with a value for each row.

        Example:
            >>> table.add_column("score", [0.1, 0.9])
        """
        values = list(data)
        if name in self.columns:
            raise ValueError(f"the table has a column {name!r} already")
        if self.columns and len(values) != len(self.data):
            raise ValueError(f"column {name!r} has {len(values)} values, and the table {len(self.data)} rows")
        of: Type = column_types.optional(UNKNOWN) if optional else UNKNOWN
        for value in values:
            of = self._assigned(name, of, value)
        if not self.columns:
            self.data = [[] for _ in values]
        self.columns.append(name)
        self._types[name] = of
        for row, value in zip(self.data, values, strict=True):
            row.append(self._wrapped(name, value))

    def add_computed_columns(self, fn: Callable[[int, dict[Column, Any]], dict[str, Any]]) -> None:
        """Adds columns whose values a function computes from the index and the row.

        Example:
            >>> table.add_computed_columns(lambda index, row: {"wrong": row["label"] != "cat"})
        """
        found: dict[str, list[Any]] = {}
        for index, row in self.iterrows():
            for name, value in fn(index, dict(zip(self.columns, row, strict=True))).items():
                found.setdefault(name, []).append(value)
        for name, values in found.items():
            self.add_column(name, values)

    def get_column(self, name: Column, convert_to: Literal["numpy"] | None = None) -> Any:
        """Returns the values of a column, as a list or as an array of numpy.

        Example:
            >>> table.get_column("id", convert_to="numpy").mean()
        """
        self._must_have(name)
        if convert_to not in (None, "numpy"):
            raise ValueError(f"convert_to={convert_to!r} must be None or 'numpy'")
        at = self.columns.index(name)
        values = [row[at] for row in self.data]
        if convert_to is None:
            return values
        import numpy

        to_array = "to_data_array"
        return numpy.array(
            [getattr(value, to_array)() if hasattr(value, to_array) else value for value in values]
        )

    def iterrows(self) -> Iterator[tuple[TableIndex, list[Any]]]:
        """Yields the index of each row, and its values. An index may be a cell of another table.

        Example:
            >>> for index, row in table.iterrows():
            ...     print(index, row)
        """
        for number, row in enumerate(self.data):
            yield TableIndex.of(number, self), row

    def get_index(self) -> list[TableIndex]:
        """Returns the indexes of all rows, for a column of another table.

        Example:
            >>> predictions.add_column("image", images.get_index())
        """
        return [TableIndex.of(number, self) for number in range(len(self.data))]

    def index_ref(self, index: int) -> TableIndex:
        """Returns the index of one row.

        Example:
            >>> artfs.Table(columns=["image"]).add_data(images.index_ref(1))
        """
        if not 0 <= index < len(self.data):
            raise IndexError(f"the table has {len(self.data)} rows, and no row {index}")
        return TableIndex.of(index, self)

    def get_dataframe(self) -> pandas.DataFrame:
        """Returns a frame of pandas. Raises ImportError where that is not installed.

        Example:
            >>> table.get_dataframe().describe()
        """
        import pandas

        return pandas.DataFrame.from_records(self.data, columns=self.columns)

    def __eq__(self, other: object) -> bool:
        """Tells whether columns, their types and all values are equal; arrays as a whole."""
        if not isinstance(other, Table):
            return NotImplemented
        return (
            self.columns == other.columns
            and self._types == other._types
            and len(self.data) == len(other.data)
            and all(
                _equal(one, another)
                for ours, theirs in zip(self.data, other.data, strict=True)
                for one, another in zip(ours, theirs, strict=True)
            )
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    # -- the file

    def to_json(self, artifact: NewFiles) -> dict[str, Any]:
        """Returns the content of the file. Raises ValueError for more rows than MAX_ARTIFACT_ROWS."""
        if len(self.data) > self.MAX_ARTIFACT_ROWS:
            raise ValueError(
                f"the table has {len(self.data)} rows, and an artifact takes {self.MAX_ARTIFACT_ROWS} of one;"
                " artfs.Table.MAX_ARTIFACT_ROWS sets another limit"
            )
        types, elsewhere = table_file.stored_types(
            self._types, lambda column: self.get_column(column, convert_to="numpy"), artifact
        )
        return {
            "_type": self.kind,
            "columns": self.columns,
            "data": [
                [
                    None if at in elsewhere else table_file.cell_to_json(value, artifact)
                    for at, value in enumerate(row)
                ]
                for row in self.data
            ],
            "ncols": len(self.columns),
            "nrows": len(self.data),
            "column_types": types.to_json(artifact),
            "log_mode": self.log_mode,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any], artifact: Files) -> Self:
        columns = list(found["columns"])
        table = cls(columns=columns, log_mode=found.get("log_mode", "IMMUTABLE"))
        types, rows = table_file.read(found, artifact)
        table._types |= types
        for values in rows:
            if types:
                table.data.append([*map(table._wrapped, columns, values)])
            else:
                table.add_data(*values)
        return table


def _equal(one: Any, other: Any) -> bool:
    same = one == other
    if hasattr(same, "all"):
        return getattr(one, "shape", None) == getattr(other, "shape", None) and bool(same.all())
    return bool(same)
