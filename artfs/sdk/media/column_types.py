"""The types of a table's columns: which values a column takes, and how wandb stores that.

Owns inference (the type of a value), widening (the type of a column once it has taken one more value) and the
JSON of both. Types are values that never change. Pure, but for the files that a type of classes or keys adds
to an artifact.

The names, parameters and rules are those of ``wandb/sdk/data_types/_dtypes.py``.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from artfs.sdk.media.value import Files, NewFiles


@dataclass(frozen=True)
class Type:
    """A type without parameters; types with parameters are subclasses."""

    name: str

    def taking(self, other: Type) -> Type | None:
        """Returns the type widened to values of the other one; None if it can't take them."""
        return self if other == self else None

    def assigned(self, value: Any) -> Type | None:
        """Returns the type widened to one more value; None if it can't take it."""
        return self.taking(type_of(value))

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {}

    def to_json(self, artifact: NewFiles) -> dict[str, Any]:
        params = self.params(artifact)
        return {"wb_type": self.name, "params": params} if params else {"wb_type": self.name}

    def __str__(self) -> str:
        return self.name


class _Unknown(Type):
    """Becomes the type of the first value."""

    def taking(self, other: Type) -> Type | None:
        return None if other in (NONE, INVALID) else other


class _Any(Type):
    def taking(self, other: Type) -> Type | None:
        return None if other in (NONE, INVALID) else self


INVALID, NONE = Type("invalid"), Type("none")
UNKNOWN, ANY = _Unknown("unknown"), _Any("any")
NUMBER, STRING, BOOLEAN, TIMESTAMP = Type("number"), Type("string"), Type("boolean"), Type("timestamp")


@dataclass(frozen=True)
class Object(Type):
    """Any other object of Python, by the name of its class."""

    class_name: str

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {"class_name": self.class_name}


@dataclass(frozen=True)
class Const(Type):
    """One value, or one of a set."""

    value: Any
    is_set: bool = False

    def assigned(self, value: Any) -> Type | None:
        return self if value == self.value else None

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {"val": sorted(self.value) if self.is_set else self.value, "is_set": self.is_set}


@dataclass(frozen=True)
class Union(Type):
    """One of several types; an unknown one among them becomes the type of a value that no other takes."""

    allowed: tuple[Type, ...]

    def taking(self, other: Type) -> Type | None:
        found: Type | None = self
        for one in other.allowed if isinstance(other, Union) else (other,):
            found = found._taking(one) if isinstance(found, Union) else None
        return found

    def _taking(self, other: Type) -> Type | None:
        return self._widened(lambda member: member.taking(other))

    def assigned(self, value: Any) -> Type | None:
        return self._widened(lambda member: member.assigned(value))

    def _widened(self, take: Callable[[Type], Type | None]) -> Type | None:
        for member in sorted(self.allowed, key=lambda member: member == UNKNOWN):
            if (taken := take(member)) is not None:
                return union(taken if other is member else other for other in self.allowed)
        return None

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {"allowed_types": [member.to_json(artifact) for member in self.allowed]}

    def __str__(self) -> str:
        return " or ".join(str(member) for member in self.allowed)


def union(types: Iterable[Type]) -> Union:
    flat: list[Type] = []
    for one in types:
        flat += one.allowed if isinstance(one, Union) else [one]
    return Union("union", tuple(sorted(flat, key=str)))


def optional(of: Type) -> Union:
    return union([of, NONE])


@dataclass(frozen=True)
class ListOf(Type):
    """Lists of elements of one type; the length is None once there were several lengths."""

    element: Type
    length: int | None = None

    def taking(self, other: Type) -> Type | None:
        if not isinstance(other, ListOf) or (element := self.element.taking(other.element)) is None:
            return None
        return ListOf("list", element, self.length if self.length == other.length else None)

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {"element_type": self.element.to_json(artifact), "length": self.length}

    def __str__(self) -> str:
        return f"{self.element}[]"


@dataclass(frozen=True)
class Dict(Type):
    """Dictionaries with a type for each key; the columns of a table are one."""

    keys: Mapping[Any, Type] = field(hash=False)

    def taking(self, other: Type) -> Type | None:
        if not isinstance(other, Dict) or not set(other.keys) <= set(self.keys):
            return None
        taken = {key: of.taking(other.keys.get(key, UNKNOWN)) for key, of in self.keys.items()}
        return (
            None if None in taken.values() else Dict(self.name, {key: of for key, of in taken.items() if of})
        )

    def assigned(self, value: Any) -> Type | None:
        if not isinstance(value, dict) or not set(value) <= set(self.keys):
            return None
        taken = {key: of.assigned(value.get(key)) for key, of in self.keys.items()}
        return (
            None if None in taken.values() else Dict(self.name, {key: of for key, of in taken.items() if of})
        )

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {"type_map": {str(key): of.to_json(artifact) for key, of in self.keys.items()}}

    def __str__(self) -> str:
        return "{" + ", ".join(f"{key}: {of}" for key, of in self.keys.items()) + "}"


@dataclass(frozen=True)
class NDArray(Type):
    """Arrays of numpy of one shape. `stored`: the file and the key under which a table keeps the column."""

    shape: tuple[int, ...]
    stored: tuple[str, str] | None = None

    def taking(self, other: Type) -> Type | None:
        return (
            self
            if isinstance(other, ListOf) or (isinstance(other, NDArray) and other.shape == self.shape)
            else None
        )

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        stored = None if self.stored is None else {"path": self.stored[0], "key": self.stored[1]}
        return {"shape": list(self.shape), "serialization_path": stored}


@dataclass(frozen=True)
class OpaqueType(Type):
    """A type that artfs does not interpret: it is written as it was read."""

    found: Mapping[str, Any] = field(hash=False)

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return dict(self.found)


@dataclass(frozen=True)
class Owned:
    """How another module of this package infers the types of values of its class."""

    infer: Callable[[Any], Type]
    #: The type that the class alone declares.
    blank: Type


Column = str | int
"""The name of a column."""

_owned: dict[type, Owned] = {}
_read: dict[str, Callable[[dict[str, Any], Files], Type]] = {}


def register(name: str, read: Callable[[dict[str, Any], Files], Type]) -> None:
    """Adds a type that another module owns: `read` makes it of its JSON parameters."""
    _read[name] = read


def register_class(of: type, owned: Owned) -> None:
    """Adds the type of the values of a class, and of its subclasses."""
    _owned[of] = owned


def _owned_by(cls: type) -> Owned | None:
    return next((_owned[base] for base in cls.__mro__ if base in _owned), None)


_PLAIN = {
    type(None): NONE,
    str: STRING,
    bool: BOOLEAN,
    int: NUMBER,
    float: NUMBER,
    datetime.datetime: TIMESTAMP,
    datetime.date: TIMESTAMP,
}
#: Of numpy's kinds of scalars; see numpy.dtype.kind.
_KINDS = {"b": BOOLEAN, "i": NUMBER, "u": NUMBER, "f": NUMBER, "c": NUMBER, "M": TIMESTAMP, "U": STRING}


def type_of(value: Any) -> Type:
    """Infers the type of a value. That of NaN is none, as in a table of pandas."""
    if isinstance(value, float) and math.isnan(value):
        return NONE
    if (owned := _owned_by(type(value))) is not None:
        return owned.infer(value)
    if type(value) in _PLAIN:
        return _PLAIN[type(value)]
    if isinstance(value, list | tuple | set | frozenset):
        return _type_of_list(list(value))
    if isinstance(value, dict):
        return Dict("typedDict", {key: type_of(item) for key, item in value.items()})
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    shape = getattr(value, "shape", None)
    if kind is not None and isinstance(shape, tuple):
        if shape:
            return NDArray("ndarray", shape)
        if kind in _KINDS:
            return _KINDS[kind]
    return Object("pythonObject", type(value).__name__)


def _type_of_list(items: list[Any]) -> Type:
    element: Type | None = optional(UNKNOWN) if None in items else UNKNOWN
    for item in items:
        element = element.assigned(item) if element is not None else None
    return ListOf("list", element or INVALID, len(items))


def declared(given: Any) -> Type:
    """Returns the type that `given` names: a class of values, a list or dictionary of some, or an example."""
    if isinstance(given, Type):
        return given
    if isinstance(given, type):
        if (owned := _owned_by(given)) is not None:
            return owned.blank
        if issubclass(given, list | tuple | set | frozenset):
            return ListOf("list", UNKNOWN)
        if issubclass(given, dict):
            return Dict("typedDict", {})
        return _PLAIN.get(given) or Object("pythonObject", given.__name__)
    if isinstance(given, list):
        if len(given) > 1:
            return union(declared(one) for one in given)
        return ListOf("list", declared(given[0]) if given else UNKNOWN)
    if isinstance(given, dict):
        return Dict("typedDict", {key: declared(one) for key, one in given.items()})
    if (owned := _owned_by(type(given))) is not None:
        return owned.infer(given)
    return Const("const", frozenset(given) if isinstance(given, set) else given, isinstance(given, set))


def type_in(found: Mapping[str, Any], artifact: Files) -> Type:
    """Makes a type of its JSON object."""
    name, params = str(found["wb_type"]), found.get("params") or {}
    if name in _read:
        return _read[name](params, artifact)
    match name:
        case "union":
            return union(type_in(one, artifact) for one in params["allowed_types"])
        case "list":
            element = params.get("element_type")
            return ListOf(name, type_in(element, artifact) if element else UNKNOWN, params.get("length"))
        case "typedDict" | "dictionary":
            keys = {key: type_in(one, artifact) for key, one in params.get("type_map", {}).items()}
            return Dict("typedDict", keys)
        case "ndarray":
            stored = params.get("serialization_path")
            return NDArray(name, tuple(params["shape"]), (stored["path"], stored["key"]) if stored else None)
        case "pythonObject" | "object":
            return Object("pythonObject", params["class_name"])
        case "const":
            is_set = bool(params.get("is_set"))
            return Const(name, frozenset(params["val"]) if is_set else params["val"], is_set)
    plain = {of.name: of for of in (INVALID, NONE, UNKNOWN, ANY, NUMBER, STRING, BOOLEAN, TIMESTAMP)}
    return plain[name] if name in plain and not params else OpaqueType(name, params)
