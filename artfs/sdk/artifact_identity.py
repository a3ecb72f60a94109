"""What an artifact is and is called: the facts that wandb's class has of it.

Owns their public names; those that mean nothing without a server have a constant answer.
"""

from __future__ import annotations

from typing import Any

from artfs.model import names
from artfs.sdk import arguments
from artfs.sdk.artifact_state import ArtifactState


class ArtifactIdentity:
    """The facts of one artifact. Those of a version raise ArtifactNotLoggedError before there is one."""

    _state: ArtifactState

    @property
    def type(self) -> str:
        """What it holds, like ``model``; all versions of a collection have one type."""
        return self._state.kind

    @property
    def id(self) -> str:
        """The name and number of the version."""
        return f"{self._state.collection}:{self._state.version('id')}"

    @property
    def version(self) -> str:
        """The number of the version: ``v0``. Raises ArtifactNotLoggedError before there is one."""
        return self._state.version("version")

    @property
    def digest(self) -> str:
        """The digest of names, kinds, contents, exec bits and link targets: equal for equal versions."""
        return self._state.fact("digest")

    @property
    def commit_hash(self) -> str:
        """The same as :attr:`digest`."""
        return self._state.fact("digest")

    @property
    def digest_algorithm(self) -> str:
        """The algorithm of all digests in the volume: ``xxh128`` or ``sha256``."""
        return self._state.client().algorithm().label

    @property
    def size(self) -> int:
        """The bytes of all files; of a draft, of those that it has now."""
        return self._count("size", "bytes")

    @property
    def file_count(self) -> int:
        """The number of files; of a draft, of those that it has now."""
        return self._count("file_count", "files")

    def _count(self, key: str, pending_key: str) -> int:
        draft = self._state.settled_draft()
        if draft is None:
            return int(self._state.status[key])
        return int(draft.status()[pending_key]) if draft.has_tree() else 0

    @property
    def created_at(self) -> str:
        """When the version was made: ISO 8601 in UTC."""
        return self._state.fact("created_at")

    @property
    def updated_at(self) -> str:
        """When its description, metadata, tags or ttl were last changed; at first when it was made."""
        return self._state.client().updated_at(self._state.collection, self._state.version("updated_at"))

    @property
    def distributed_id(self) -> str | None:
        """The id under which many runs made it; None for an artifact of one. Set it before adding files."""
        raw = self._state.distributed_id()
        return None if names.is_private(raw) else arguments.decoded_id(raw)

    @distributed_id.setter
    def distributed_id(self, value: str | None) -> None:
        self._state.share(None if value is None else arguments.distributed_id("distributed_id", value))

    @property
    def state(self) -> str:
        """``PENDING``, ``COMMITTED`` or ``DELETED``."""
        return "DELETED" if self._state.deleted else "PENDING" if self.is_draft() else "COMMITTED"

    @property
    def unchanged(self) -> bool:
        """Whether saving found that nothing differs from the newest version, which the artifact then is."""
        return self._state.unchanged

    def is_draft(self) -> bool:
        """Tells whether it is no version yet.

        Example:
            >>> artfs.Artifact("mnist", type="dataset").is_draft()
            True
        """
        return self._state.settled_draft() is not None

    @property
    def history_step(self) -> None:
        """None: steps of metrics are not kept."""
        return None

    @property
    def incremental(self) -> bool:
        """False: :meth:`new_draft` makes versions of versions."""
        return False

    @property
    def url(self) -> str:
        """Empty: there is no server; ``add_reference("artfs://...")`` refers to a version."""
        return ""

    @property
    def use_as(self) -> str | None:
        """What was given as `use_as`. It means nothing here."""
        return self._state.use_as

    def json_encode(self) -> dict[str, Any]:
        """Returns what identifies the version, as JSON values.

        Example:
            >>> logged.json_encode()["artifactVersion"]
            'v1'
        """
        version = self._state.version("json_encode")
        return {
            "_type": "artifactVersion",
            "_version": "v0",
            "id": f"{self._state.collection}:{version}",
            "version": version,
            "artifactVersion": version,
            "sequenceName": self._state.collection,
            "usedAs": self._state.use_as,
        }

    # -- what it is called

    @property
    def name(self) -> str:
        """``mnist`` while it is a draft, ``mnist:v0`` once it is a version."""
        return self._state.location().name

    @property
    def qualified_name(self) -> str:
        """The name with entity and project or registry before it, as far as they are known."""
        return self._state.location().qualified_name

    @property
    def entity(self) -> str:
        """The entity that the collection belongs to; empty if none was ever named."""
        return self._state.location().scope().entity

    @property
    def project(self) -> str:
        """The project or registry that the collection belongs to; empty if none was ever named."""
        return self._state.location().scope().project

    # -- of a link, which version it was made from

    @property
    def is_link(self) -> bool:
        """Tells whether it was made by :meth:`link`."""
        return self._state.is_link()

    @property
    def linked_at(self) -> str | None:
        """When a link was made; None for any other version."""
        return str(self._state.status["created_at"]) if self.is_link else None

    @property
    def source_name(self) -> str:
        """The name of the version that a link was made from; of any other its own.

        Example:
            >>> api.artifact("wandb-registry-model/digits:production").source_name
            'mnist-cnn:v1'
        """
        return self._state.source_location().name

    @property
    def source_qualified_name(self) -> str:
        """The same with entity and project before it, as far as they are known."""
        return self._state.source_location().qualified_name

    @property
    def source_entity(self) -> str:
        """The entity of the version that a link was made from; of any other its own."""
        return self._state.source_location().scope().entity

    @property
    def source_project(self) -> str:
        """The project of the version that a link was made from; of any other its own."""
        return self._state.source_location().scope().project

    @property
    def source_version(self) -> str:
        """The number of the version that a link was made from, or that a draft begins as; else its own.

        Example:
            >>> api.artifact("mnist:v1").new_draft().source_version
            'v1'
        """
        draft = self._state.draft
        return (draft.base if draft is not None else None) or self._state.source()[1]
