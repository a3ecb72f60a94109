"""Layers over an image: boxes, and masks with a class for each pixel.

Owns their checks. Boxes are part of the image's JSON, a mask is a file in ``media/images/mask/``.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from artfs.sdk.media import pixels
from artfs.sdk.media.value import Content, Files, MediaValue, NewFiles

if TYPE_CHECKING:
    import PIL.Image


class BoundingBoxes2D:
    """Boxes over an image: ``{"box_data": [{"position": {}, "class_id": 1}], "class_labels": {1: "cat"}}``.

    A position has minX, maxX, minY and maxY, or middle, width and height; a box may have a domain, scores
    and a box_caption. Raises TypeError for anything else.
    """

    def __init__(self, val: Mapping[str, Any], key: str) -> None:
        boxes = val["box_data"]
        if not isinstance(boxes, list):
            raise TypeError(f"box_data of {key!r} must be a list, not {type(boxes).__name__}")
        self._key, self._val = key, [_plain_box(box, key) for box in boxes]
        labels = val.get("class_labels")
        if labels is None:
            labels = {
                number: f"class_{number}"
                for number in sorted({b["class_id"] for b in boxes if "class_id" in b})
            }
        self._class_labels = _labels(labels, key)

    def __eq__(self, other: object) -> bool:
        return self._val == other._val if isinstance(other, BoundingBoxes2D) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


def _plain_box(box: Mapping[str, Any], key: str) -> dict[str, Any]:
    position = dict(box.get("position", {}))
    if hasattr(position.get("middle"), "tolist"):
        position["middle"] = position["middle"].tolist()
    corners = all(_is_number(position.get(name)) for name in ("minX", "maxX", "minY", "maxY"))
    around = _is_number(position.get("width")) and _is_number(position.get("height"))
    if not corners and not (around and len(position.get("middle", ())) == 2):
        raise TypeError(
            f"a box of {key!r} has no position: minX, maxX, minY and maxY, or middle, width and height"
        )
    if not isinstance(box.get("class_id", 0), int):
        raise TypeError(f"class_id of a box of {key!r} must be an integer, not {box['class_id']!r}")
    if not isinstance(box.get("box_caption", ""), str):
        raise TypeError(f"box_caption of a box of {key!r} must be text, not {box['box_caption']!r}")
    scores = box.get("scores", {})
    if not isinstance(scores, dict) or not all(
        isinstance(k, str) and _is_number(v) for k, v in scores.items()
    ):
        raise TypeError(f"scores of a box of {key!r} must be numbers by name, not {scores!r}")
    return {**box, "position": position}


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Number) and not isinstance(value, bool)


def _labels(labels: Mapping[Any, Any], key: str) -> dict[Any, str]:
    if not all(_is_number(number) and isinstance(name, str) for number, name in labels.items()):
        raise TypeError(f"class_labels of {key!r} must be names by number, not {labels!r}")
    return dict(labels)


class ImageMask(MediaValue):
    """A mask over an image: ``{"mask_data": array, "class_labels": {1: "cat"}}``, or a ``path`` for the data.

    The array has two dimensions and a class of 0 to 255 for each pixel. Raises TypeError for anything else.
    """

    kind = "mask"

    def __init__(self, val: Mapping[str, Any], key: str) -> None:
        self._key = key
        self._class_labels: dict[Any, str] = _labels(val.get("class_labels") or {}, key)
        if "path" in val:
            self._content = Content.of_path(val["path"])
            return
        if "mask_data" not in val:
            raise TypeError(f"the mask {key!r} has neither mask_data nor a path")
        data = pixels.array_of(val["mask_data"])
        if data.ndim != 2 or (data.size and not (data.min() >= 0 and data.max() <= 255)):
            raise TypeError(f"mask_data of {key!r} must be an array of two dimensions, of 0 to 255")
        if "class_labels" not in val:
            import numpy

            self._class_labels = {int(number): f"class_{number}" for number in numpy.unique(data)}
        import PIL.Image

        self._content = Content.of_bytes(
            pixels.encoded(PIL.Image.fromarray(data.astype("uint8"), "L"), "png")
        )

    def to_json(self, artifact: NewFiles) -> dict[str, Any]:
        path = self._content.added(artifact, "media/images/mask", ".mask.png")
        return {"_type": self.kind, "path": path, "sha256": self._content.sha256}

    @classmethod
    def from_json(cls, found: dict[str, Any], artifact: Files) -> Self:
        mask = cls.__new__(cls)
        mask._key, mask._class_labels = "", {}
        mask._content = Content.of_artifact(found["path"], artifact)
        return mask

    @property
    def image(self) -> PIL.Image.Image:
        """The mask as an image of Pillow, with the classes as values of its pixels."""
        return pixels.decoded(self._content)
