"""artfs under the name wandb, for training libraries that import wandb themselves.

Owns the modules of wandb that such libraries import besides the package, as far as they concern artifacts and
runs. Others can't be imported: nothing falls back on wandb itself, which would talk to a server. Excepted
is ``wandb.integration``, the callbacks of an installed wandb for Keras and others, which call wandb by its
public names.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import artfs
from artfs.errors import UsageError
from artfs.sdk.arguments import StrPath
from artfs.sdk.disabled_run import DisabledRun
from artfs.sdk.run import Run


def replace_wandb() -> None:
    """Makes ``import wandb`` return artfs, in libraries that this process imports from now on.

    transformers, Lightning, Keras, ultralytics, accelerate and fastai then keep their checkpoints as
    versions. Libraries that ask for the version of wandb (Lightning does) need it installed, too; it is not
    imported. ``sys.modules["wandb"] = artfs`` does the same without a check.

    Raises UsageError if wandb itself was imported before. Calling it again changes nothing.

    Example:
        >>> artfs.replace_wandb()
        >>> from lightning.pytorch.loggers import WandbLogger
    """
    if sys.modules.setdefault("wandb", artfs) is not artfs:
        raise UsageError("replace_wandb() is too late: wandb was imported before; call it first")


def module(name: str) -> ModuleType | None:
    """Returns the replacement of a module of wandb; None for one of wandb's own ``integration``.

    Raises ModuleNotFoundError for all others.
    """
    if name == "wandb.errors":
        return artfs.errors
    if name == "wandb.integration":
        return _integration()
    if name.startswith("wandb.integration."):
        return None
    attributes = _attributes().get(name)
    if attributes is None:
        raise ModuleNotFoundError(f"artfs replaces wandb here, and has no module {name!r}", name=name)
    found = ModuleType(name, "Replaces wandb's module of this name.")
    vars(found).update(attributes, __path__=[])
    return found


def _attributes() -> dict[str, dict[str, Any]]:
    media = ("BoundingBoxes2D", "Classes", "Image", "ImageMask", "JoinedTable", "Table")
    return {
        "wandb.apis": {},
        "wandb.apis.public": {"Api": artfs.Api},
        "wandb.sdk": {},
        "wandb.sdk.artifacts": {},
        "wandb.sdk.artifacts.artifact": {"Artifact": artfs.Artifact},
        "wandb.sdk.lib": {"RunDisabled": DisabledRun},
        "wandb.sdk.lib.config_util": {"ConfigError": UsageError},
        "wandb.sdk.lib.paths": {"StrPath": StrPath},
        "wandb.sdk.lib.telemetry": {"context": _telemetry},
        "wandb.sdk.wandb_run": {"Run": Run},
        "wandb.wandb_run": {"Run": Run},
        "wandb.data_types": {name: getattr(artfs, name) for name in media},
        "wandb.util": {"add_import_hook": _no_hook},
    }


def _integration() -> ModuleType:
    installed = PathFinder.find_spec("wandb")
    if installed is None or installed.origin is None:
        raise ModuleNotFoundError("wandb.integration is wandb's own: install wandb", name="wandb.integration")
    found = ModuleType("wandb.integration", "wandb's own callbacks, over artfs.")
    found.__path__ = [os.fspath(Path(installed.origin).parent / "integration")]
    return found


@contextlib.contextmanager
def _telemetry(*_args: Any, **_more: Any) -> Iterator[Any]:
    """Accepts what wandb's callbacks report about their use, and drops it."""
    yield SimpleNamespace(feature=SimpleNamespace(), env=SimpleNamespace(), imports=SimpleNamespace())


def _no_hook(*_args: Any, **_more: Any) -> None:
    """wandb patches old versions of Keras when they are imported."""
