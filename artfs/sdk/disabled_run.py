"""The run of ``mode="disabled"``, which leaves nothing in the volume. Reading works.

Owns what each call that would make or record something does instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from artfs.sdk.artifact import Artifact
from artfs.sdk.run import Run


class _NoVersion:
    """Takes the place of a version that was not made: each attribute is itself, and so is what it returns."""

    def __getattr__(self, _name: str) -> _NoVersion:
        return self

    def __call__(self, *_: object, **__: object) -> _NoVersion:
        return self


class DisabledRun(Run):
    """A run that is recorded nowhere. What it would log stays as it is."""

    def _keep(self, document: Mapping[str, Any], *, here: bool = False) -> None:
        self._facts |= document

    def _used(self, artifact: Artifact) -> None:
        pass

    def log_artifact(self, *_: Any, **__: Any) -> Artifact:
        """Makes no version.

        Example:
            >>> run.log_artifact("model.bin", name="model", type="model").wait()
        """
        return cast(Artifact, _NoVersion())

    upsert_artifact = finish_artifact = link_artifact = log_artifact

    def log_model(self, *_: Any, **__: Any) -> None:
        """Makes no version.

        Example:
            >>> run.log_model("model.bin", name="model")
        """

    link_model = log_code = log_model

    def use_artifact(self, artifact_or_name: Artifact | str, *args: Any, **more: Any) -> Artifact:
        """Returns a version; a draft is returned as it is, and not saved.

        Example:
            >>> run.use_artifact("mnist:latest").download()
        """
        if isinstance(artifact_or_name, Artifact) and artifact_or_name.is_draft():
            return artifact_or_name
        return super().use_artifact(artifact_or_name, *args, **more)
