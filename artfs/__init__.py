"""artfs: a filesystem of immutable versions. These are the public names of its Python SDK.

They are wandb's: ``import artfs as wandb`` is what a program changes; ``sys.modules["wandb"] = artfs`` does
it for libraries that import wandb themselves. Each is loaded when it is first used, so that the command line
doesn't wait for them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artfs import errors
    from artfs.errors import *
    from artfs.errors import ArtfsError as Error
    from artfs.sdk.api import Api
    from artfs.sdk.artifact import Artifact
    from artfs.sdk.artifact_collection import ArtifactCollection
    from artfs.sdk.artifact_labels import ArtifactTTL
    from artfs.sdk.artifact_types import ArtifactType
    from artfs.sdk.functions import (
        alert,
        define_metric,
        finish_artifact,
        link_artifact,
        link_model,
        log,
        log_artifact,
        log_code,
        log_model,
        save,
        unwatch,
        upsert_artifact,
        use_artifact,
        use_model,
        watch,
    )
    from artfs.sdk.manifest_entries import ArtifactManifest, ArtifactManifestEntry
    from artfs.sdk.media import BoundingBoxes2D, Classes, Image, ImageMask, JoinedTable, Table
    from artfs.sdk.no_ops import Audio, Histogram, Html, Video, plot, plot_table, termerror, termlog, termwarn
    from artfs.sdk.registries import Registry
    from artfs.sdk.replacement import replace_wandb
    from artfs.sdk.run import Run
    from artfs.sdk.run_init import finish, init, login
    from artfs.sdk.run_values import Config, Summary
    from artfs.sdk.serializers import register_type
    from artfs.sdk.settings import Settings
    from artfs.version import __version__

    config: Config
    run: Run | None
    summary: Summary

#: The names of each module, but for the errors, which are in ``artfs.errors``.
_MODULES = {
    "artfs.sdk.api": "Api",
    "artfs.sdk.artifact": "Artifact",
    "artfs.sdk.artifact_collection": "ArtifactCollection",
    "artfs.sdk.artifact_labels": "ArtifactTTL",
    "artfs.sdk.artifact_types": "ArtifactType",
    "artfs.sdk.functions": "alert define_metric finish_artifact link_artifact link_model log log_artifact"
    " log_code log_model save unwatch upsert_artifact use_artifact use_model watch",
    "artfs.sdk.manifest_entries": "ArtifactManifest ArtifactManifestEntry",
    "artfs.sdk.media": "BoundingBoxes2D Classes Image ImageMask JoinedTable Table",
    "artfs.sdk.no_ops": "Audio Histogram Html Video plot plot_table termerror termlog termwarn",
    "artfs.sdk.registries": "Registry",
    "artfs.sdk.replacement": "replace_wandb",
    "artfs.sdk.run": "Run",
    "artfs.sdk.run_init": "finish init login",
    "artfs.sdk.run_values": "Config",
    "artfs.sdk.serializers": "register_type",
    "artfs.sdk.settings": "Settings",
    "artfs.version": "__version__",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

# artifacts
__all__ = ["Api", "Artifact", "ArtifactCollection", "ArtifactManifest", "__version__"]
__all__ += ["ArtifactManifestEntry", "ArtifactTTL", "ArtifactType", "Registry", "register_type"]
# runs
__all__ += ["Config", "Run", "Settings", "config", "finish", "init", "login", "replace_wandb", "run"]
__all__ += ["summary"]
# methods of the current run
__all__ += ["alert", "define_metric", "finish_artifact", "link_artifact", "link_model", "log"]
__all__ += ["log_artifact", "log_code", "log_model", "save", "unwatch", "upsert_artifact", "use_artifact"]
__all__ += ["use_model", "watch"]
# tables, images, and what is accepted and not kept
__all__ += ["Audio", "BoundingBoxes2D", "Classes", "Histogram", "Html", "Image", "ImageMask", "JoinedTable"]
__all__ += ["Table", "Video", "plot", "plot_table", "termerror", "termlog", "termwarn"]
# errors
__all__ += ["AliasNotFound", "AlreadyExists", "AlreadyFinishedError", "AlreadyPending", "ArtfsError"]
__all__ += ["ArtifactFinalizedError", "ArtifactNotLoggedError", "BeingFilled", "Busy", "CannotSeal"]
__all__ += ["Changed", "CollectionNotFound", "Collision", "CommError", "CrossTree", "CutShort", "Damaged"]
__all__ += ["DraftNotFoundError", "Error", "HeldByAlias", "Interrupted", "InvalidCommand"]
__all__ += ["InvalidName", "LostRace", "MountError", "NotAVolume", "NotEmpty", "NotFound", "NotIdle"]
__all__ += ["NotJoined", "NotPermitted", "NotStored", "OpenForWriting", "PathConflictError", "PathNotFound"]
__all__ += ["ReadOnly", "ReferenceFailed", "RemoteMissing", "RunNotFound", "RunsJoined", "Sealing"]
__all__ += ["TreeTouched", "TypeMismatch", "Unreachable", "UnsupportedError", "UnsupportedFilesystem"]
__all__ += ["UsageError", "VersionNotFound", "VolumeError", "VolumeExists", "VolumeInUse", "VolumeTooNew"]
__all__ += ["errors"]


def __getattr__(name: str) -> Any:
    if name == "run":  # the current one
        return import_module("artfs.sdk.run_context").run()
    if name in ("config", "summary"):  # that run's
        running = import_module("artfs.sdk.run_context").run()
        return (
            import_module("artfs.sdk.functions").CurrentRunValues(name)
            if running is None
            else getattr(running, name)
        )
    if name == "errors":
        return import_module("artfs.errors")
    if name not in __all__:
        raise AttributeError(f"module 'artfs' has no attribute {name!r}")
    module, attribute = _HOMES.get(name, "artfs.errors"), "ArtfsError" if name == "Error" else name
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _WandbFinder:
    """Finds the modules of wandb where ``sys.modules["wandb"]`` is artfs; see :mod:`artfs.sdk.replacement`.

    Without it ``wandb.errors`` would be a copy of artfs.errors, with classes that no program catches.
    """

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if not fullname.startswith("wandb.") or sys.modules.get("wandb") is not sys.modules[__name__]:
            return None
        found = import_module("artfs.sdk.replacement").module(fullname)
        return None if found is None else ModuleSpec(fullname, _Known(found))  # type: ignore[arg-type]


class _Known:
    """Loads a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        if self._spec is not None:
            module.__spec__ = self._spec  # the import system has put its own there


sys.meta_path.insert(0, _WandbFinder)
