"""A run's shortcuts for artifacts of one type: models, and the code that ran.

Owns wandb's defaults for them; they are artifacts like any other.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable

from artfs.errors import NotFound
from artfs.model.scope import REGISTRY
from artfs.sdk import arguments
from artfs.sdk.arguments import StrPath
from artfs.sdk.artifact import Artifact
from artfs.sdk.connection import connect
from artfs.sdk.run_record import RunFacts

MODELS = f"{REGISTRY}model"
"""The registry that models are linked to."""

Choice = Callable[[str, str], bool] | Callable[[str], bool]
"""Called with the absolute path of a file, and with the root if it takes two arguments."""


def is_code(path: str) -> bool:
    """Tells what ``log_code`` takes: Python files, requirements.txt and Dockerfiles."""
    name = os.path.basename(path)
    return name.endswith(".py") or name == "requirements.txt" or name.startswith("Dockerfile")


def is_left_out(path: str, root: str) -> bool:
    """Tells what ``log_code`` leaves out: directories that wandb and artfs write to."""
    first = os.path.relpath(path, root).split(os.sep)[0]
    return first in ("wandb", "artfs-runs", "artifacts", ".artfs-volume")


def of_path(run: str, path: StrPath, name: str | None, kind: str | None) -> Artifact:
    """Returns a draft of a file, a directory or a URI, with the name that wandb gives it by default."""
    text = arguments.fspath("artifact_or_path", path)
    if not (os.path.exists(text) or "://" in text):
        raise ValueError(f"artifact_or_path={text!r} is neither an artifact nor a file or directory")
    artifact = Artifact(name or _default_name(run, text), kind or "unspecified")
    if os.path.isdir(text):
        artifact.add_dir(text)
    elif os.path.exists(text):
        artifact.add_file(text)
    else:
        artifact.add_reference(text)
    return artifact


def _default_name(run: str, path: StrPath) -> str:
    return f"run-{run}-{os.path.basename(os.path.abspath(path))}"


class RunModels(RunFacts):
    """The methods of a run that are about models and code."""

    log_artifact: Callable[..., Artifact]
    use_artifact: Callable[..., Artifact]
    link_artifact: Callable[..., Artifact]

    def log_model(
        self, path: StrPath, name: str | None = None, aliases: Iterable[str] | str | None = None
    ) -> None:
        """Makes a version of type ``model`` of a file, a directory or a URI.

        Example:
            >>> run.log_model("model.bin", name="mnist-cnn", aliases=["candidate"])
        """
        self.log_artifact(path, name, "model", aliases)

    def use_model(self, name: str) -> str:
        """Downloads a model, records the use, and returns its path: that of the file, if there is only one.

        Raises ValueError if the type has no ``model`` in it.

        Example:
            >>> run.use_model("mnist-cnn:candidate")
            '.../artifacts/mnist-cnn:v1/model.bin'
        """
        artifact = self.use_artifact(name)
        _check_model(artifact)
        root = artifact.download()
        found = os.listdir(root)
        return os.path.join(root, found[0]) if len(found) == 1 else root

    def link_model(
        self,
        path: StrPath,
        registered_model_name: str,
        name: str | None = None,
        aliases: Iterable[str] | str | None = None,
    ) -> Artifact | None:
        """Makes a version of a model, and links it to a collection of the registry ``model``.

        The aliases are those of the link. Raises ValueError if the collection's name holds a slash, or if
        `name` is of another type.

        Example:
            >>> run.link_model("model.bin", "digits", name="mnist-cnn", aliases=["staging"])
        """
        if "/" in registered_model_name:
            raise ValueError(
                f"registered_model_name={registered_model_name!r} must be a name without entity and project"
            )
        name = name or _default_name(self.id, path)
        try:
            known = Artifact._find(connect(), "name", name)
        except NotFound:
            kind = "model"
        else:
            _check_model(known)
            kind = known.type
        artifact = self.log_artifact(path, name, kind)
        return self.link_artifact(artifact, f"{MODELS}/{registered_model_name}", aliases)

    def log_code(
        self,
        root: str | None = ".",
        name: str | None = None,
        include_fn: Choice = is_code,
        exclude_fn: Choice = is_left_out,
    ) -> Artifact | None:
        """Makes a version of type ``code`` of the program's files below `root`; None if there are none.

        `include_fn` and `exclude_fn` get each file's absolute path, and the root if they take two arguments.
        Symlinks to directories are not followed.

        Example:
            >>> run.log_code(".", include_fn=lambda path: path.endswith((".py", ".ipynb")))
        """
        top = os.path.abspath(root or ".")
        artifact = Artifact(name or _slug(f"source-{self.project or self.id}"), "code")
        added = False
        for directory, _, files in os.walk(top):
            for path in (os.path.join(directory, file) for file in sorted(files)):
                if _asked(include_fn, path, top) and not _asked(exclude_fn, path, top):
                    artifact.add_file(path, name=os.path.relpath(path, top))
                    added = True
        return self.log_artifact(artifact) if added else None


def _check_model(artifact: Artifact) -> None:
    if "model" not in artifact.type.lower():
        raise ValueError(f"{artifact.name} has the type {artifact.type!r}, which is no model's")


def _asked(choice: Choice, path: str, root: str) -> bool:
    two = len(inspect.signature(choice).parameters) > 1
    return bool(choice(path, root)) if two else bool(choice(path))  # type: ignore[call-arg]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)
