"""Scopes: what wandb writes before a name, ``entity/project/name``, and what a volume makes of it.

A volume is one namespace. A registry is kept apart by name: ``wandb-registry-R/NAME`` is the collection
``wandb-registry-R.NAME``, and as a registry's name holds no dot, the first one tells the two parts. Any other
collection belongs to one project at most, which it remembers. Pure values and functions; any thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from artfs.errors import InvalidCommand, InvalidName, printable

REGISTRY = "wandb-registry-"

_REGISTRY = re.compile(rf"({REGISTRY}[A-Za-z0-9_-]+)\.(.+)")
_PART = re.compile(r"[^/:\\#?%\0-\x1f\x7f]{0,128}")  # what wandb lets an entity or a project be


@dataclass(frozen=True, slots=True)
class Scope:
    """An entity and a project; one that is not known is empty."""

    entity: str = ""
    project: str = ""

    def __post_init__(self) -> None:
        """Raises InvalidName."""
        for what, part in (("an entity", self.entity), ("a project", self.project)):
            if not _PART.fullmatch(part) or part != part.strip():
                rule = (
                    "use at most 128 characters without '/', ':', '\\', '#', '?', '%' and control characters"
                )
                raise InvalidName(what, part, rule)

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Reads ``ENTITY/PROJECT``, of which either may be empty; undoes ``str``."""
        entity, _, project = text.partition("/")
        return cls(entity, project)

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}" if self else ""

    def __bool__(self) -> bool:
        return bool(self.entity or self.project)

    def agrees(self, other: Scope) -> bool:
        """Tells whether both can be of one collection: no part that both know differs."""
        pairs = ((self.entity, other.entity), (self.project, other.project))
        return all(one == another for one, another in pairs if one and another)

    def path(self, name: str) -> str:
        """Returns a name with what is known before it."""
        return "/".join(part for part in (self.entity, self.project, name) if part)


def in_registry(project: str, name: str) -> str:
    """Returns the collection of a name in a registry; the project begins with :data:`REGISTRY`.

    Raises InvalidName.
    """
    collection = f"{project}.{name}"
    if split(collection) != (project, name):
        raise InvalidName("a registry", project, f"use letters, digits, '_' and '-' after {REGISTRY}")
    return collection


def split(collection: str) -> tuple[str, str]:
    """Returns the registry's project, empty for none, and the name within it."""
    found = _REGISTRY.fullmatch(collection)
    return (found[1], found[2]) if found else ("", collection)


def of(collection: str, recorded: str) -> Scope:
    """Returns the scope of a collection, given what it remembers."""
    scope, registry = Scope.parse(recorded), split(collection)[0]
    return Scope(scope.entity, registry or scope.project)


def claimed(collection: str, recorded: str, claim: Scope) -> str:
    """Returns what a collection is to remember once something is logged to it in a scope.

    Raises InvalidCommand if it belongs to another one.
    """
    scope, (registry, name) = of(collection, recorded), split(collection)
    if claim.project.startswith(REGISTRY) and not registry:
        raise InvalidCommand(f"'{name}' can't belong to a registry: link it to {claim.path(name)}")
    if not scope.agrees(claim):
        raise InvalidCommand(
            f"'{printable(name)}' belongs to {printable(scope.path('*'))}, not to"
            f" {printable(claim.path('*'))}: a volume has one collection of a name; use another one"
        )
    project = "" if registry else scope.project or claim.project
    return str(Scope(scope.entity or claim.entity, project))
