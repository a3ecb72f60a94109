"""Scopes: the ``entity/project`` that wandb writes before a name, and their meaning in a volume.

A volume is one namespace. ``wandb-registry-R/NAME`` is the collection ``wandb-registry-R.NAME``; the name of
a registry has no dot, so the first dot separates the parts. Any other collection belongs to at most one
project, which it records. Pure values and functions; any thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from artfs.errors import InvalidCommand, InvalidName
from artfs.printing import printable

REGISTRY = "wandb-registry-"

_REGISTRY = re.compile(rf"({REGISTRY}[A-Za-z0-9_-]+)\.(.+)")
_PART = re.compile(r"[^/:\\#?%\0-\x1f\x7f]{0,128}")  # what wandb allows for an entity or a project


@dataclass(frozen=True, slots=True)
class Scope:
    """An entity and a project; either is empty if it is not known."""

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
        """Parses ``ENTITY/PROJECT``, of which either may be empty; the reverse of ``str``."""
        entity, _, project = text.partition("/")
        return cls(entity, project)

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}" if self else ""

    def __bool__(self) -> bool:
        return bool(self.entity or self.project)

    def agrees(self, other: Scope) -> bool:
        """Tells whether both can be of one collection: no known part differs."""
        pairs = ((self.entity, other.entity), (self.project, other.project))
        return all(one == another for one, another in pairs if one and another)

    def path(self, name: str) -> str:
        """Returns a name with the known parts before it."""
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
    """Returns the scope of a collection from what it records."""
    scope, registry = Scope.parse(recorded), split(collection)[0]
    return Scope(scope.entity, registry or scope.project)


def claimed(collection: str, recorded: str, claim: Scope) -> str:
    """Returns what a collection records once something is logged to it in a scope.

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
