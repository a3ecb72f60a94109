"""Names of the classes that boxes and masks of images are labelled with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from artfs.sdk.media import column_types
from artfs.sdk.media.column_types import Const, Owned, Type, Union, union
from artfs.sdk.media.value import Files, MediaValue, NewFiles


class Classes(MediaValue):
    """A set of classes, each ``{"id": int | str, "name": str}``.

    Example:
        >>> artfs.Classes([{"id": 0, "name": "person"}, {"id": 1, "name": "car"}])
    """

    kind = "classes"

    def __init__(self, class_set: Sequence[dict[str, Any]]) -> None:
        for one in class_set:
            if "id" not in one or "name" not in one:
                raise ValueError(f"{one!r} is no class: it needs an 'id' and a 'name'")
        self._class_set = [dict(one) for one in class_set]

    def to_json(self, artifact: NewFiles | None = None) -> dict[str, Any]:
        return {"_type": self.kind, "class_set": self._class_set}

    @classmethod
    def from_json(cls, found: dict[str, Any], artifact: Files) -> Self:
        return cls(found["class_set"])

    def names(self) -> dict[Any, str]:
        """Returns the names by id."""
        return {one["id"]: one["name"] for one in self._class_set}

    def added(self, artifact: NewFiles) -> dict[str, Any]:
        """Adds the classes under a name that is a hash of them; returns how an image refers to that."""
        name = hashlib.sha256(repr(self._class_set).encode()).hexdigest()[:32]
        entry = artifact.add(self, f"media/classes/{name}_cls")
        return {"type": "classes-file", "path": entry.path, "digest": entry.digest}

    def get_type(self) -> Type:
        """Returns the type of a column that holds ids of these classes.

        Example:
            >>> artfs.Table(columns=["class"], dtype=[classes.get_type()])
        """
        return _ids(self)

    def __eq__(self, other: object) -> bool:
        return self._class_set == other._class_set if isinstance(other, Classes) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self._class_set))


@dataclass(frozen=True)
class ClassIds(Type):
    """The type of a column of ids."""

    valid: Union
    classes: Classes = field(compare=False)

    def assigned(self, value: Any) -> Type | None:
        return self if any(member.assigned(value) for member in self.valid.allowed) else None

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        return {"valid_ids": self.valid.to_json(artifact), "classes_obj": self.classes.added(artifact)}


def _ids(classes: Classes) -> Type:
    valid = union(Const("const", one) for one in classes.names())
    return ClassIds("classesId", valid, classes)


def _read(params: dict[str, Any], artifact: Files) -> Type:
    found = params.get("classes_obj") or {}
    if "path" in found:
        return _ids(artifact.get(found["path"]))
    return _ids(Classes(found.get("class_set", [])))


column_types.register_class(Classes, Owned(_ids, _ids(Classes([]))))
for name in ("classesId", "wandb.Classes_id"):
    column_types.register(name, _read)
