"""The type of a column of images: its layers of boxes and masks, and the names of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from artfs.sdk.media import column_types
from artfs.sdk.media.column_types import Const, Type
from artfs.sdk.media.value import Files, NewFiles


@dataclass(frozen=True)
class ImageType(Type):
    """It widens when images with other layers or classes are added to the column."""

    box_layers: Mapping[str, frozenset[Any]] = field(default_factory=dict, hash=False)
    box_score_keys: frozenset[str] = frozenset()
    mask_layers: Mapping[str, frozenset[Any]] = field(default_factory=dict, hash=False)
    box_class_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    mask_class_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    class_map: Mapping[str, str] = field(default_factory=dict, hash=False)

    def taking(self, other: Type) -> Type | None:
        if not isinstance(other, ImageType):
            return None
        return ImageType(
            self.name,
            _merged(self.box_layers, other.box_layers),
            self.box_score_keys | other.box_score_keys,
            _merged(self.mask_layers, other.mask_layers),
            _merged_names(self.box_class_maps, other.box_class_maps),
            _merged_names(self.mask_class_maps, other.mask_class_maps),
            {**other.class_map, **self.class_map},
        )

    def params(self, artifact: NewFiles) -> dict[str, Any]:
        def const(value: Any, *, is_set: bool = False) -> dict[str, Any]:
            return {"wb_type": "const", "params": {"val": value, "is_set": is_set}}

        return {
            "box_layers": const({key: sorted(ids, key=str) for key, ids in self.box_layers.items()}),
            "box_score_keys": const(sorted(self.box_score_keys), is_set=True),
            "mask_layers": const({key: sorted(ids, key=str) for key, ids in self.mask_layers.items()}),
            "box_class_maps": const(dict(self.box_class_maps)),
            "mask_class_maps": const(dict(self.mask_class_maps)),
            "class_map": const(dict(self.class_map)),
        }


def _merged(
    one: Mapping[str, frozenset[Any]], other: Mapping[str, frozenset[Any]]
) -> dict[str, frozenset[Any]]:
    nothing: frozenset[Any] = frozenset()
    return {key: one.get(key, nothing) | other.get(key, nothing) for key in {**one, **other}}


def _merged_names(
    one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    return {key: {**other.get(key, {}), **one.get(key, {})} for key in {**one, **other}}


def _read_type(params: dict[str, Any], artifact: Files) -> Type:
    values: dict[str, Any] = {}
    for key, found in params.items():
        of = column_types.type_in(found, artifact) if isinstance(found, dict) and "wb_type" in found else None
        values[key] = of.value if isinstance(of, Const) else found
    return ImageType(
        "image-file",
        {key: frozenset(ids) for key, ids in values.get("box_layers", {}).items()},
        frozenset(values.get("box_score_keys", ())),
        {key: frozenset(ids) for key, ids in values.get("mask_layers", {}).items()},
        values.get("box_class_maps", {}),
        values.get("mask_class_maps", {}),
        values.get("class_map", {}),
    )


for name in ("image-file", "wandb.Image"):
    column_types.register(name, _read_type)
