"""Names as wandb's users write them, ``entity/project/name:alias``, and the collections that they name.

Owns that entity and project are never ignored: a registry is part of the collection's name, and an entity or
project that is not the collection's own finds nothing. Any thread.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from artfs.errors import CollectionNotFound, InvalidName, NotFound
from artfs.model import scope as scopes
from artfs.model.names import LATEST
from artfs.model.scope import Scope
from artfs.printing import printable
from artfs.sdk import arguments
from artfs.sdk.connection import Connection


@dataclass(frozen=True)
class VersionLocation:
    """A version, or a draft (`version` is None), by the names that wandb's users call it."""

    connection: Connection
    collection: str
    version: str | None

    @property
    def name(self) -> str:
        name = short(self.collection)
        return name if self.version is None else f"{name}:{self.version}"

    @property
    def qualified_name(self) -> str:
        return self.scope().path(self.name)

    def scope(self) -> Scope:
        """Returns the scope of the collection, as far as it is known; empty where there is no collection."""
        with contextlib.suppress(CollectionNotFound):
            return self.connection.client().scope(self.collection)
        return Scope()


def parse(argument: str, value: str) -> tuple[Scope, str, str]:
    """Splits ``entity/project/name:ref`` into scope, collection and what follows the first colon.

    Raises ValueError. Whether there is such a collection is not checked.
    """
    path, colon, ref = arguments.text(argument, value).partition(":")
    if colon and not ref:
        raise ValueError(f"{argument}={value!r} names no version after the colon")
    *above, name = path.split("/")
    if len(above) > 2:
        raise ValueError(f"{argument}={value!r} has more before the name than an entity and a project")
    scope = scope_of(argument, *["", "", *above][-2:])
    collection = arguments.collection(argument, name)
    if scope.project.startswith(scopes.REGISTRY):
        try:
            collection = arguments.collection(argument, scopes.in_registry(scope.project, name))
        except InvalidName as error:
            raise ValueError(f"{argument}={value!r}: {error.rule}") from None
    return scope, collection, ref and arguments.encoded_alias(ref)


def scope_of(argument: str, entity: str | None, project: str | None) -> Scope:
    """Returns a scope. Raises ValueError for an illegal entity or project."""
    try:
        return Scope(entity or "", project or "")
    except InvalidName as error:
        raise ValueError(f"{argument}: {error}") from None


def find(connection: Connection, argument: str, value: str) -> tuple[str, str]:
    """Returns the collection of a name, and the version or alias after it, by default ``latest``.

    Raises ValueError, and NotFound if there is no such collection in the scope that is given.
    """
    scope, collection, ref = parse(argument, value)
    if scope:
        found = connection.client().scope(collection)
        if not found.agrees(scope):
            name = scopes.split(collection)[1]
            raise NotFound(
                f"there is no collection '{printable(scope.path(name))}' in this volume:"
                f" its '{name}' belongs to {printable(found.path('*'))}"
            )
    return collection, ref or LATEST


def collections(connection: Connection, argument: str, path: str | None) -> list[dict[str, Any]]:
    """Returns the facts of all collections, or of those of a project or registry, ``entity/project``.

    A collection of which no project is known belongs to each.
    """
    client = connection.client()
    found = client.collections()
    if not path:
        return found
    entity, _, project = arguments.text(argument, path).rpartition("/")
    scope = scope_of(argument, entity, project)
    within = []
    for one in found:
        registry = scopes.split(one["name"])[0]
        if (project if project.startswith(scopes.REGISTRY) else registry) == registry:
            with contextlib.suppress(NotFound):  # removed since
                if client.scope(one["name"]).agrees(scope):
                    within.append(one)
    return within


def short(collection: str) -> str:
    """Returns the name of a collection as wandb has it, without the registry."""
    return scopes.split(collection)[1]
