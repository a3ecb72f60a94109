"""How objects become files, and files objects: which type becomes which file.

Owns the registry. No library is imported before it is needed: a type is known by its module and name, and its
own library does the work. Any thread.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from artfs.sdk.json_values import checked_value


@dataclass(frozen=True)
class Kind:
    """How objects of one type become files of one suffix, and back."""

    suffix: str
    dump: Callable[[Any], bytes]
    load: Callable[[bytes], Any]


_by_type: dict[str, Kind] = {}
_by_suffix: dict[str, Kind] = {}


def register_type(
    qualified_name: str, suffix: str, dump: Callable[[Any], bytes], load: Callable[[bytes], Any]
) -> None:
    """Makes ``Artifact.add`` take objects of one more type, and ``Artifact.get`` return them.

    `qualified_name` is the type's, like ``"torch.Tensor"``, so that its library need not be imported; it
    includes subclasses. For a suffix that is registered twice, ``get`` uses the last one. Raises TypeError
    and ValueError.

    Example:
        >>> dump, load = lambda value: str(value).encode(), lambda data: Decimal(data.decode())
        >>> artfs.register_type("decimal.Decimal", ".decimal", dump, load)
    """
    for argument, value in (("qualified_name", qualified_name), ("suffix", suffix)):
        if not isinstance(value, str):
            raise TypeError(f"{argument} must be text, not {type(value).__name__}")
    if not suffix.startswith(".") or "/" in suffix:
        raise ValueError(f"suffix={suffix!r} does not begin with a dot, or holds a slash")
    kind = Kind(suffix, dump, load)
    _by_type[qualified_name] = kind
    _by_suffix[suffix] = kind


def kind_of(obj: Any) -> Kind:
    """Returns how an object is written. Raises TypeError."""
    if isinstance(obj, bytes | bytearray | memoryview):
        return _BYTES
    if isinstance(obj, str):
        return _TEXT
    for base in type(obj).__mro__:
        kind = _by_type.get(f"{base.__module__}.{base.__qualname__}")
        if kind is not None:
            return kind
    if obj is None or isinstance(obj, bool | int | float | dict | list | tuple):
        return _JSON
    known = ", ".join(sorted({"artfs.Image", "artfs.Table", "bytes", "text", "what JSON can say", *_by_type}))
    raise TypeError(f"obj is a {type(obj).__module__}.{type(obj).__qualname__}; known are {known}")


def missing_suffix(kind: Kind, name: str) -> str:
    """Returns the suffix to append to a name; text keeps a suffix of its own."""
    has = "." in name if kind is _TEXT else name.endswith(kind.suffix)
    return "" if has else kind.suffix


def suffixes() -> list[str]:
    """Returns the suffixes that ``add`` may have appended to a name."""
    return [_TEXT.suffix, _JSON.suffix, *_by_suffix]


def load(name: str, data: bytes) -> Any:
    """Makes an object of a file, by its suffix; bytes if none is known.

    Raises ImportError where the library that made it is missing.
    """
    builtin = {kind.suffix: kind for kind in (_TEXT, _JSON)}
    for suffix, kind in (builtin | _by_suffix).items():
        if name.endswith(suffix):
            return kind.load(data)
    return data


def _dump_json(obj: Any) -> bytes:
    plain = checked_value("obj", obj)
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=2).encode() + b"\n"


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _dump_numpy(array: Any) -> bytes:
    import numpy

    return _written(lambda file: numpy.save(file, array, allow_pickle=False))


def _load_numpy(data: bytes) -> Any:
    import numpy

    return numpy.load(io.BytesIO(data), allow_pickle=False)


def _dump_arrow(table: Any) -> bytes:
    import pyarrow.parquet

    return _written(lambda file: pyarrow.parquet.write_table(table, file))


def _load_parquet(data: bytes) -> Any:
    """Returns the table as an object of the library that wrote it, which the file names."""
    try:
        import pyarrow.parquet
    except ImportError:
        import polars

        return polars.read_parquet(io.BytesIO(data))
    schema = pyarrow.parquet.read_schema(io.BytesIO(data))
    if b"pandas" in (schema.metadata or {}):
        import pandas

        return pandas.read_parquet(io.BytesIO(data))
    created_by = pyarrow.parquet.read_metadata(io.BytesIO(data)).created_by or ""
    if "polars" in created_by.lower():
        import polars

        return polars.read_parquet(io.BytesIO(data))
    return pyarrow.parquet.read_table(io.BytesIO(data))


def _load_image(data: bytes) -> Any:
    import PIL.Image

    image = PIL.Image.open(io.BytesIO(data))
    image.load()
    return image


def _dump_figure(figure: Any) -> bytes:
    # Without the name and version of the software the same figure gives the same file.
    return _written(lambda file: figure.savefig(file, format="png", metadata={"Software": None}))


_BYTES = Kind("", bytes, lambda data: data)
_TEXT = Kind(".txt", str.encode, bytes.decode)
_JSON = Kind(".json", _dump_json, json.loads)

_by_type["numpy.generic"] = _JSON
register_type("numpy.ndarray", ".npy", _dump_numpy, _load_numpy)
for _name in ("pandas.core.frame.DataFrame", "pandas.DataFrame"):  # the second one since pandas 3
    register_type(_name, ".parquet", lambda frame: frame.to_parquet(), _load_parquet)
register_type(
    "polars.dataframe.frame.DataFrame", ".parquet", lambda frame: _written(frame.write_parquet), _load_parquet
)
register_type("pyarrow.lib.Table", ".parquet", _dump_arrow, _load_parquet)
register_type("matplotlib.figure.Figure", ".png", _dump_figure, _load_image)
register_type(
    "PIL.Image.Image",
    ".png",
    lambda image: _written(lambda file: image.save(file, format="PNG")),
    _load_image,
)
