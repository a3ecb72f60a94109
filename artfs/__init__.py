"""artfs: a filesystem of immutable versions. These are the public names of its Python SDK.

They are wandb's: ``import artfs as wandb`` is what a program changes. Each is loaded when it is first used,
so that the command line doesn't wait for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artfs.errors import (
        AliasNotFound,
        AlreadyExists,
        AlreadyFinishedError,
        AlreadyPending,
        ArtfsError,
        ArtifactFinalizedError,
        ArtifactNotLoggedError,
        BeingFilled,
        Busy,
        CannotSeal,
        Changed,
        CollectionNotFound,
        Collision,
        CrossTree,
        CutShort,
        Damaged,
        DraftNotFoundError,
        HeldByAlias,
        Interrupted,
        InvalidCommand,
        InvalidName,
        LostRace,
        MountError,
        NotAVolume,
        NotEmpty,
        NotFound,
        NotIdle,
        NotJoined,
        NotPermitted,
        NotStored,
        OpenForWriting,
        PathConflictError,
        PathNotFound,
        ReadOnly,
        ReferenceFailed,
        RemoteMissing,
        RunNotFound,
        RunsJoined,
        Sealing,
        TreeTouched,
        TypeMismatch,
        Unreachable,
        VersionNotFound,
        VolumeError,
        VolumeExists,
        VolumeInUse,
        VolumeTooNew,
    )
    from artfs.errors import ArtfsError as Error
    from artfs.sdk.api import Api, ArtifactCollection, ArtifactType
    from artfs.sdk.artifact import Artifact
    from artfs.sdk.core import ArtifactTTL
    from artfs.sdk.entries import ArtifactManifest, ArtifactManifestEntry
    from artfs.sdk.media import BoundingBoxes2D, Classes, Image, ImageMask, JoinedTable, Table
    from artfs.sdk.objects import register_type
    from artfs.sdk.run import Run, finish, init, login
    from artfs.version import __version__

    run: Run | None

#: Where each name is, but for the errors, which are in ``artfs.errors``.
_HOMES = {
    "Error": "artfs.errors:ArtfsError",
    "Api": "artfs.sdk.api:Api",
    "Artifact": "artfs.sdk.artifact:Artifact",
    "ArtifactCollection": "artfs.sdk.api:ArtifactCollection",
    "ArtifactManifest": "artfs.sdk.entries:ArtifactManifest",
    "ArtifactManifestEntry": "artfs.sdk.entries:ArtifactManifestEntry",
    "ArtifactTTL": "artfs.sdk.core:ArtifactTTL",
    "ArtifactType": "artfs.sdk.api:ArtifactType",
    "BoundingBoxes2D": "artfs.sdk.media:BoundingBoxes2D",
    "Classes": "artfs.sdk.media:Classes",
    "Image": "artfs.sdk.media:Image",
    "ImageMask": "artfs.sdk.media:ImageMask",
    "JoinedTable": "artfs.sdk.media:JoinedTable",
    "Run": "artfs.sdk.run:Run",
    "Table": "artfs.sdk.media:Table",
    "__version__": "artfs.version:__version__",
    "finish": "artfs.sdk.run:finish",
    "init": "artfs.sdk.run:init",
    "login": "artfs.sdk.run:login",
    "register_type": "artfs.sdk.objects:register_type",
}

__all__ = [
    "AliasNotFound",
    "AlreadyExists",
    "AlreadyFinishedError",
    "AlreadyPending",
    "Api",
    "ArtfsError",
    "Artifact",
    "ArtifactCollection",
    "ArtifactFinalizedError",
    "ArtifactManifest",
    "ArtifactManifestEntry",
    "ArtifactNotLoggedError",
    "ArtifactTTL",
    "ArtifactType",
    "BeingFilled",
    "BoundingBoxes2D",
    "Busy",
    "CannotSeal",
    "Changed",
    "Classes",
    "CollectionNotFound",
    "Collision",
    "CrossTree",
    "CutShort",
    "Damaged",
    "DraftNotFoundError",
    "Error",
    "HeldByAlias",
    "Image",
    "ImageMask",
    "Interrupted",
    "InvalidCommand",
    "InvalidName",
    "JoinedTable",
    "LostRace",
    "MountError",
    "NotAVolume",
    "NotEmpty",
    "NotFound",
    "NotIdle",
    "NotJoined",
    "NotPermitted",
    "NotStored",
    "OpenForWriting",
    "PathConflictError",
    "PathNotFound",
    "ReadOnly",
    "ReferenceFailed",
    "RemoteMissing",
    "Run",
    "RunNotFound",
    "RunsJoined",
    "Sealing",
    "Table",
    "TreeTouched",
    "TypeMismatch",
    "Unreachable",
    "VersionNotFound",
    "VolumeError",
    "VolumeExists",
    "VolumeInUse",
    "VolumeTooNew",
    "__version__",
    "finish",
    "init",
    "login",
    "register_type",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "run":  # the one that goes on now, as wandb.run is
        return import_module("artfs.sdk.current").run()
    if name not in __all__:
        raise AttributeError(f"module 'artfs' has no attribute {name!r}")
    module, _, attribute = _HOMES.get(name, f"artfs.errors:{name}").partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
