"""What wandb's programs ask of an artifact and artfs answers in a word, as it has no servers and no steps.

Owns those answers. What takes a look into the volume is in :mod:`~artfs.sdk.artifact`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from artfs.client.interface import Client


class Facts:
    """The part of an artifact that tells what follows from the rest."""

    _collection: str
    _status: dict[str, Any]
    _use_as: str | None = None

    @abstractmethod
    def _version(self, what: str) -> str: ...

    @abstractmethod
    def _access(self) -> Client: ...

    @property
    def commit_hash(self) -> str:
        """The same as the digest: it stands for the whole content."""
        self._version("commit_hash")
        return str(self._status["digest"])

    @property
    def digest_algorithm(self) -> str:
        """The algorithm of all digests in the volume: ``xxh128`` or ``sha256``."""
        return self._access().algorithm().label

    @property
    def history_step(self) -> None:
        """None: steps of metrics are not kept."""
        return None

    @property
    def incremental(self) -> bool:
        """False: ``new_draft()`` makes versions of versions."""
        return False

    @property
    def url(self) -> str:
        """Empty, as wandb's is without a server; ``add_reference("artfs://...")`` refers to a version."""
        return ""

    @property
    def linked_at(self) -> str | None:
        """When a link was made; None of what is none."""
        return str(self._status["created_at"]) if self._status.get("link") else None

    @property
    def use_as(self) -> str | None:
        """What was given as `use_as`. It means nothing here."""
        return self._use_as

    def json_encode(self) -> dict[str, Any]:
        """Returns what identifies the version, as plain values.

        Example:
            >>> logged.json_encode()["artifactVersion"]
            'v1'
        """
        version = self._version("json_encode")
        return {
            "_type": "artifactVersion",
            "_version": "v0",
            "id": f"{self._collection}:{version}",
            "version": version,
            "artifactVersion": version,
            "sequenceName": self._collection,
            "usedAs": self._use_as,
        }
