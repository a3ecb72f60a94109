"""Images with boxes and masks over them, in ``NAME.image-file.json`` and ``media/images/``.

Owns what an image is made of, and its JSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from artfs.sdk.media import column_types, pixels
from artfs.sdk.media.classes import Classes
from artfs.sdk.media.column_types import Owned, Type
from artfs.sdk.media.image_type import ImageType
from artfs.sdk.media.overlays import BoundingBoxes2D, ImageMask
from artfs.sdk.media.value import Content, Files, MediaValue, NewFiles

if TYPE_CHECKING:
    import PIL.Image

_URI = re.compile(r"(s3|gs|https?|az|artfs)://")


class Image(MediaValue):
    """An image, as ``wandb.Image`` is.

    `data_or_path` is a path or URI, an array or tensor, or an image of Pillow or matplotlib. Arrays have
    height, width and channels, tensors of torch channels, height and width, with values of 0 to 255. Pixels
    are written as `file_type`, by default png. `boxes` and `masks` are dictionaries by name, `classes` name
    their classes. Raises OSError for a path that can't be read, ValueError for what is no image.

    Example:
        >>> artifact.add(artfs.Image("photo.jpg", caption="a cat"), "photo")  # photo.image-file.json
    """

    kind = "image-file"

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Classes | Sequence[dict[str, Any]] | None = None,
        boxes: Mapping[str, BoundingBoxes2D | Mapping[str, Any]] | None = None,
        masks: Mapping[str, ImageMask | Mapping[str, Any]] | None = None,
        file_type: str | None = None,
    ) -> None:
        self._caption, self._grouping = caption, grouping
        self._content: Content
        self.format: str
        self._width: int | None = None
        self._height: int | None = None
        self._classes: Classes | None = None
        if isinstance(data_or_path, Image):
            other = data_or_path
            self._content, self.format, self._classes = other._content, other.format, other._classes
            self._width, self._height = other._width, other._height
            self._caption = other._caption if caption is None else caption
            self._grouping = other._grouping if grouping is None else grouping
        elif isinstance(data_or_path, str | Path):
            self._take_path(os.fspath(data_or_path))
        else:
            self._take_pixels(data_or_path, mode, file_type or "png")
        self._boxes = {
            key: one if isinstance(one, BoundingBoxes2D) else BoundingBoxes2D(one, key)
            for key, one in _by_name("boxes", boxes).items()
        }
        self._masks = {
            key: one if isinstance(one, ImageMask) else ImageMask(one, key)
            for key, one in _by_name("masks", masks).items()
        }
        self._take_classes(classes)

    def _take_path(self, path: str) -> None:
        self.format = os.path.splitext(path.partition("?")[0] if _URI.match(path) else path)[1][1:]
        if _URI.match(path):
            self._content = Content.of_uri(path)
            return
        import PIL.Image

        self._content = Content.of_path(path)
        with PIL.Image.open(path) as image:  # its header alone is read
            self._width, self._height = image.size

    def _take_pixels(self, data: Any, mode: str | None, file_type: str) -> None:
        if file_type not in pixels.FORMATS:
            raise ValueError(f"file_type={file_type!r} is none of {', '.join(pixels.FORMATS)}")
        image = pixels.image_of(data, mode, file_type)
        self.format = file_type
        self._width, self._height = image.size
        self._content = Content.of_bytes(pixels.encoded(image, file_type))

    def _take_classes(self, classes: Classes | Sequence[dict[str, Any]] | None) -> None:
        """Merges the names of classes of boxes and masks; those that are given take precedence."""
        names: dict[Any, str] = {}
        for boxes in self._boxes.values():
            names |= boxes._class_labels
        for mask in self._masks.values():
            names |= mask._class_labels
        if classes is not None:
            names |= (classes if isinstance(classes, Classes) else Classes(classes)).names()
        if names:
            self._classes = Classes([{"id": number, "name": name} for number, name in names.items()])

    @property
    def image(self) -> PIL.Image.Image | None:
        """The image as Pillow has it; None for a URI that was not read through an artifact."""
        return None if self._content.uri is not None else pixels.decoded(self._content)

    def to_data_array(self) -> list[Any]:
        """Returns the pixels, row by row.

        Example:
            >>> numpy.array(image.to_data_array()).shape
            (4, 8, 3)
        """
        import numpy

        rows: list[Any] = numpy.asarray(self.image).tolist()
        return rows

    def to_json(self, artifact: NewFiles) -> dict[str, Any]:
        suffix = f".{self.format}" if self.format else ""
        found: dict[str, Any] = {
            "_type": self.kind,
            "path": self._content.added(artifact, "media/images", suffix),
            "sha256": self._content.sha256,
            "format": self.format,
        }
        facts = {
            "caption": self._caption,
            "width": self._width,
            "height": self._height,
            "grouping": self._grouping,
        }
        found |= {key: value for key, value in facts.items() if value is not None}
        if self._classes is not None:
            found["classes"] = self._classes.added(artifact)
        if self._boxes:
            found["boxes"] = {key: boxes._val for key, boxes in self._boxes.items()}
        if self._masks:
            found["masks"] = {key: mask.to_json(artifact) for key, mask in self._masks.items()}
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any], artifact: Files) -> Self:
        image = cls.__new__(cls)
        image._content = Content.of_artifact(found["path"], artifact)
        image._caption, image._grouping = found.get("caption"), found.get("grouping")
        image._width, image._height = found.get("width"), found.get("height")
        image.format = found.get("format") or os.path.splitext(found["path"])[1][1:]
        image._boxes = {
            key: BoundingBoxes2D({"box_data": boxes}, key)
            for key, boxes in (found.get("boxes") or {}).items()
        }
        image._masks = {
            key: ImageMask.from_json(mask, artifact) for key, mask in (found.get("masks") or {}).items()
        }
        for key, mask in image._masks.items():
            mask._key = key
        classes = found.get("classes")
        image._classes = None if classes is None else artifact.get(classes["path"])
        return image

    def __eq__(self, other: object) -> bool:
        """Tells whether pixels, caption, grouping and classes are equal."""
        if not isinstance(other, Image):
            return NotImplemented
        if (self._caption, self._grouping, self._classes) != (
            other._caption,
            other._grouping,
            other._classes,
        ):
            return False
        if self._content.sha256 == other._content.sha256:
            return True
        ours, theirs = self.image, other.image
        return ours is not None and theirs is not None and ours.tobytes() == theirs.tobytes()

    __hash__ = None  # type: ignore[assignment]


def _by_name(argument: str, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"{argument} must be a dictionary by name, not {type(given).__name__}")
    return given or {}


def _type_of(image: Image) -> Type:
    def layers(of: Mapping[str, Any]) -> dict[str, frozenset[Any]]:
        return {key: frozenset(one._class_labels) for key, one in of.items()}

    def names(of: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        return {key: _texts(one._class_labels) for key, one in of.items() if one._class_labels}

    scores = frozenset(
        key for boxes in image._boxes.values() for box in boxes._val for key in box.get("scores", {})
    )
    classes = {} if image._classes is None else _texts(image._classes.names())
    return ImageType(
        "image-file",
        layers(image._boxes),
        scores,
        layers(image._masks),
        names(image._boxes),
        names(image._masks),
        classes,
    )


def _texts(names: Mapping[Any, str]) -> dict[str, str]:
    return {str(number): name for number, name in names.items()}


column_types.register_class(Image, Owned(_type_of, ImageType("image-file")))
