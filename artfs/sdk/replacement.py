"""artfs under the name wandb, for training libraries that import wandb themselves.

Owns the modules of wandb that such libraries import beside the package, as far as they concern artifacts and
runs. What is not among them can't be imported: nothing falls back on wandb itself, which would talk to a
server. One exception is ``wandb.integration``: callbacks for Keras and others that an installed wandb ships,
and that call wandb by its public names.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import artfs
from artfs.errors import UsageError
from artfs.sdk.arguments import StrPath
from artfs.sdk.disabled import DisabledRun
from artfs.sdk.run import Run


def replace_wandb() -> None:
    """Makes ``import wandb`` give artfs, for the libraries that this process imports from now on.

    transformers, Lightning, Keras, ultralytics, accelerate and fastai then keep their checkpoints as
    versions. Libraries that ask for the version of wandb (Lightning does) need that installed, too; it is
    not imported.

    Raises UsageError if wandb itself was imported before. Calling it again changes nothing.

    Example:
        >>> artfs.replace_wandb()
        >>> from lightning.pytorch.loggers import WandbLogger
    """
    if sys.modules.get("wandb") is artfs:
        return
    if "wandb" in sys.modules:
        raise UsageError("replace_wandb() comes too late: wandb was imported before; call it first")
    modules = _modules()
    sys.modules["wandb"] = artfs
    sys.modules.update(modules)


def _modules() -> dict[str, ModuleType]:
    names: dict[str, dict[str, Any]] = {
        "wandb.sdk": {},
        "wandb.sdk.lib": {"RunDisabled": DisabledRun, "telemetry": SimpleNamespace(context=_telemetry)},
        "wandb.sdk.lib.config_util": {"ConfigError": UsageError},
        "wandb.sdk.lib.paths": {"StrPath": StrPath},
        "wandb.sdk.lib.telemetry": {"context": _telemetry},
        "wandb.sdk.wandb_run": {"Run": Run},
        "wandb.wandb_run": {"Run": Run},
        "wandb.data_types": {
            name: getattr(artfs, name)
            for name in ("BoundingBoxes2D", "Classes", "Image", "ImageMask", "JoinedTable", "Table")
        },
        "wandb.util": {"add_import_hook": _no_hook},
    }
    modules: dict[str, ModuleType] = {"wandb.errors": artfs.errors}
    for name, attributes in names.items():
        modules[name] = ModuleType(name, "Stands for wandb's module of this name.")
        vars(modules[name]).update(attributes)
    installed = importlib.util.find_spec("wandb")
    if installed is not None and installed.origin is not None:
        integration = ModuleType("wandb.integration")
        integration.__path__ = [os.fspath(Path(installed.origin).parent / "integration")]
        modules["wandb.integration"] = integration
    return modules


@contextlib.contextmanager
def _telemetry(*_args: Any, **_more: Any) -> Iterator[Any]:
    """Takes what wandb's callbacks tell their maker; nobody is told."""
    yield SimpleNamespace(feature=SimpleNamespace(), env=SimpleNamespace(), imports=SimpleNamespace())


def _no_hook(*_args: Any, **_more: Any) -> None:
    """wandb patches old versions of Keras when they are imported."""
