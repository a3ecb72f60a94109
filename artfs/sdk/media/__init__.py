"""wandb's data types, in wandb's own file layout: what either library writes, the other one reads.

``Artifact.add`` takes a value of these types, and ``Artifact.get`` gives it back.
"""

from __future__ import annotations

from artfs.sdk.media.classes import Classes
from artfs.sdk.media.image import Image
from artfs.sdk.media.joined_table import JoinedTable
from artfs.sdk.media.overlays import BoundingBoxes2D, ImageMask
from artfs.sdk.media.table import Table
from artfs.sdk.media.value import MediaValue, dumped, loaded, suffixes

__all__ = [
    "BoundingBoxes2D",
    "Classes",
    "Image",
    "ImageMask",
    "JoinedTable",
    "MediaValue",
    "Table",
    "dumped",
    "loaded",
    "suffixes",
]
