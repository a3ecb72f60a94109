"""How pixels in memory become the bytes of an image file, and back.

numpy, torch, Pillow and matplotlib do their own work; each is imported when one of its objects is converted.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from artfs.sdk.media.value import Content

if TYPE_CHECKING:
    import PIL.Image

#: What pixels are written as.
FORMATS = ("png", "jpg", "jpeg", "bmp")


def array_of(data: Any) -> Any:
    """Returns an array of numpy: that itself, or made of a tensor of torch or tensorflow, or of lists."""
    import numpy

    if hasattr(data, "detach"):
        data = data.detach().cpu()
    return numpy.asarray(data.numpy() if hasattr(data, "numpy") else data)


def image_of(data: Any, mode: str | None, file_type: str) -> PIL.Image.Image:
    import PIL.Image

    if isinstance(data, PIL.Image.Image):
        return data
    figure = data.gcf() if hasattr(data, "gcf") else getattr(data, "figure", data)
    if hasattr(figure, "savefig"):  # of matplotlib: a figure, a part of one, or pyplot
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return PIL.Image.open(buffer)
    array = array_of(data)
    if hasattr(data, "detach") and array.ndim == 3:  # torch has the channels first
        array = array.transpose(1, 2, 0)
    if array.ndim > 2:
        array = array.squeeze()
    channels = array.shape[-1] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"an array of shape {array.shape} is no image: that has height, width and 1, 3 or 4 channels"
        )
    if mode is None:
        mode = {1: "L", 3: "RGB", 4: "RGB" if file_type in ("jpg", "jpeg") else "RGBA"}[channels]
    return PIL.Image.fromarray(array.astype("uint8")).convert(mode)


def encoded(image: PIL.Image.Image, file_type: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format={"jpg": "jpeg"}.get(file_type, file_type))
    return buffer.getvalue()


def decoded(content: Content) -> PIL.Image.Image:
    import PIL.Image

    with content.open() as file:
        image = PIL.Image.open(file)
        image.load()
    return image
