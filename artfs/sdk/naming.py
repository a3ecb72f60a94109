"""What an artifact is called, and of a link which version it was made from.

A link is a version of its own with the content of a version of another collection, which it knows as its
source. What becomes of either does not touch the other.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self

from artfs.errors import CollectionNotFound
from artfs.model.scope import Scope
from artfs.sdk import scopes
from artfs.sdk.reading import Reading

if TYPE_CHECKING:
    from artfs.sdk.collections import ArtifactCollection


class Naming(Reading):
    """The part of an artifact that tells where it stands."""

    # -- what it is called

    @property
    def name(self) -> str:
        """``mnist`` while it is a draft, ``mnist:v0`` once it is a version."""
        return self._shown()

    @property
    def qualified_name(self) -> str:
        """The name with entity and project or registry before it, as far as they are known."""
        return self._scope().path(self.name)

    @property
    def entity(self) -> str:
        """The entity that the collection belongs to; empty if none was ever named."""
        return self._scope().entity

    @property
    def project(self) -> str:
        """The project or registry that the collection belongs to; empty if none was ever named."""
        return self._scope().project

    def _scope(self) -> Scope:
        with contextlib.suppress(CollectionNotFound):  # of a draft that has no file yet
            return self._access().scope(self._collection)
        return Scope()

    # -- where it comes from

    @property
    def is_link(self) -> bool:
        """Tells whether it was made by :meth:`link`."""
        return self._status.get("link") is not None

    @property
    def source_artifact(self) -> Self:
        """The version that a link was made from; of any other itself. Raises NotFound if it was deleted."""
        if not self.is_link:
            return self
        found: Self = type(self)._of_version(self._connection, *self._source())
        return found

    @property
    def source_collection(self) -> ArtifactCollection:
        """The collection of the version that a link was made from; of any other its own."""
        from artfs.sdk.collections import ArtifactCollection

        return ArtifactCollection(self._connection, self._source()[0])

    @property
    def source_name(self) -> str:
        """The name of the version that a link was made from; of any other its own.

        Example:
            >>> api.artifact("wandb-registry-model/digits:production").source_name
            'mnist-cnn:v1'
        """
        if not self.is_link:
            return self._shown()
        collection, version = self._source()
        return f"{scopes.short(collection)}:{version}"

    @property
    def source_qualified_name(self) -> str:
        """The same with entity and project before it, as far as they are known."""
        return self._source_scope().path(self.source_name)

    @property
    def source_entity(self) -> str:
        """The entity of the version that a link was made from; of any other its own."""
        return self._source_scope().entity

    @property
    def source_project(self) -> str:
        """The project of the version that a link was made from; of any other its own."""
        return self._source_scope().project

    def _source_scope(self) -> Scope:
        if not self.is_link:
            return self._scope()
        with contextlib.suppress(CollectionNotFound):  # deleted since
            return self._access().scope(self._source()[0])
        return Scope()

    @property
    def source_version(self) -> str:
        """The number of the version that a link was made from, or that a draft begins as; else its own.

        Example:
            >>> api.artifact("mnist:v1").new_draft().source_version
            'v1'
        """
        base = self._draft.base if self._draft is not None else None
        return base or self._source()[1]
