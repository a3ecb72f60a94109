"""Tables: rows of values, in ``NAME.table.json``.

Owns the rows, the check of each against the types of the columns, and the layout of the file. Columns of
arrays are one ``.npz`` file each.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from artfs.sdk.media import column_types
from artfs.sdk.media.cells import from_json, to_json
from artfs.sdk.media.column_types import ANY, NUMBER, TIMESTAMP, UNKNOWN, Dict, ListOf, NDArray, Type, Union
from artfs.sdk.media.keys import PRIMARY_KEY, ForeignIndex, ForeignKey, PrimaryKey, TableIndex, TableKey
from artfs.sdk.media.value import Files, MediaValue, NewFiles

if TYPE_CHECKING:
    import numpy
    import pandas

Column = str | int

#: Arrays of one dimension and at most so many numbers are written as lists: they are embeddings.
_EMBEDDING = 150


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
            raise TypeError(f"columns={columns!r} is text, not a list of names")
        columns = ["Input", "Output", "Expected"] if columns is None else list(columns)
        if not all(type(column) in (str, int) for column in columns):
            raise TypeError(f"columns={columns!r}: names of columns are text or integers")
        if len(set(columns)) < len(columns):
            raise ValueError(f"columns={columns!r}: a name stands there twice")
        if isinstance(given, str | bytes | dict):
            raise TypeError(f"data is a list of rows, not {type(given).__name__}")
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
        """Returns the type of a column that gets keys; what is there already must be some."""
        for row in self.data:
            of = self._assigned(column, of, row[self.columns.index(column)])
        return of

    def cast(self, col_name: Column, dtype: Any, optional: bool = False) -> None:
        """Sets the type of a column. Raises TypeError if a value that is there is of another one.

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
            raise ValueError(f"convert_to={convert_to!r} is neither None nor 'numpy'")
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
        """Returns what stands in the file. Raises ValueError for more rows than MAX_ARTIFACT_ROWS."""
        if len(self.data) > self.MAX_ARTIFACT_ROWS:
            raise ValueError(
                f"the table has {len(self.data)} rows, and an artifact takes {self.MAX_ARTIFACT_ROWS} of one;"
                " artfs.Table.MAX_ARTIFACT_ROWS sets another limit"
            )
        types, elsewhere = dict(self._types), set()
        for at, (column, of) in enumerate(self._types.items()):
            array = next((one for one in _members(of) if isinstance(one, NDArray)), None)
            if array is None:
                continue
            if len(array.shape) == 1 and array.shape[0] <= _EMBEDDING:
                types[column] = ListOf("list", NUMBER, array.shape[0])
            else:
                stored = NDArray("ndarray", array.shape, self._store(column, artifact))
                types[column] = _replaced(of, array, stored)
                elsewhere.add(at)
        return {
            "_type": self.kind,
            "columns": self.columns,
            "data": [
                [None if at in elsewhere else to_json(value, artifact) for at, value in enumerate(row)]
                for row in self.data
            ],
            "ncols": len(self.columns),
            "nrows": len(self.data),
            "column_types": Dict("typedDict", types).to_json(artifact),
            "log_mode": self.log_mode,
        }

    def _store(self, column: Column, artifact: NewFiles) -> tuple[str, str]:
        import numpy

        buffer = io.BytesIO()
        numpy.savez_compressed(buffer, **{str(column): self.get_column(column, convert_to="numpy")})
        data = buffer.getvalue()
        name = f"media/serialized_data/{hashlib.sha256(data).hexdigest()[:20]}.npz"
        return artifact.add(data, name).path, str(column)

    @classmethod
    def from_json(cls, found: dict[str, Any], artifact: Files) -> Self:
        columns = list(found["columns"])
        typed = found.get("column_types")
        table = cls(columns=columns, log_mode=found.get("log_mode", "IMMUTABLE"))
        dates, arrays = set(), {}
        if typed is not None:
            types = {
                name: column_types.type_in(of, artifact)
                for name, of in typed.get("params", {}).get("type_map", {}).items()
            }
            for at, column in enumerate(columns):
                of = types.get(str(column), UNKNOWN)
                for member in _members(of):
                    if member == TIMESTAMP:
                        dates.add(at)
                    elif isinstance(member, NDArray) and member.stored is not None:
                        arrays[at] = _array(artifact, *member.stored)
                        of = _replaced(of, member, NDArray("ndarray", member.shape))
                table._types[column] = of
        for number, row in enumerate(found["data"]):
            values = []
            for at, cell in enumerate(row):
                if at in arrays:
                    value = arrays[at][number]
                else:
                    value = from_json(cell, artifact, is_date=at in dates)
                values.append(value)
            if typed is None:
                table.add_data(*values)
            else:
                table.data.append([*map(table._wrapped, columns, values)])
        return table


def _members(of: Type) -> tuple[Type, ...]:
    return of.allowed if isinstance(of, Union) else (of,)


def _replaced(of: Type, old: Type, new: Type) -> Type:
    if not isinstance(of, Union):
        return new
    return column_types.union(new if member is old else member for member in of.allowed)


def _array(artifact: Files, path: str, key: str) -> Any:
    import numpy

    with artifact.open(path) as file:
        return numpy.load(io.BytesIO(file.read()), allow_pickle=False)[key]


def _equal(one: Any, other: Any) -> bool:
    same = one == other
    if hasattr(same, "all"):
        return getattr(one, "shape", None) == getattr(other, "shape", None) and bool(same.all())
    return bool(same)
