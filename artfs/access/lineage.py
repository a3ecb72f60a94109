"""Where versions come from and what became of them: the graph of versions and runs around one collection.

Owns how it is gathered. Knows no implementation of `Access`, and not how a graph is shown. Blocking; any
thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from artfs.access.access import Access
from artfs.errors import NotFound, VolumeError


@dataclass(frozen=True, slots=True)
class Node:
    """A version, by a name like ``model:v3``, or a run, by its id. ``facts`` is what is known of it."""

    kind: str  # "version" or "run"
    name: str
    facts: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name


@dataclass(slots=True)
class Graph:
    """Nodes, and edges in the direction of time: a version to a run that used it, a run to what it made.

    An edge from version to version leads from the base of a patch to the patch. Nodes that were deleted since
    have no facts.
    """

    nodes: dict[tuple[str, str], Node] = field(default_factory=dict)
    edges: dict[tuple[tuple[str, str], tuple[str, str]], None] = field(default_factory=dict)

    def before(self, node: Node) -> Iterator[Node]:
        """Yields the nodes that lead to one."""
        return (self.nodes[start] for start, end in self.edges if end == node.key)

    def after(self, node: Node) -> Iterator[Node]:
        """Yields the nodes that one leads to."""
        return (self.nodes[end] for start, end in self.edges if start == node.key)

    def json(self) -> dict[str, Any]:
        return {
            "nodes": [{"kind": node.kind, "name": node.name} for node in self.nodes.values()],
            "edges": [{"from": start[1], "to": end[1]} for start, end in self.edges],
        }


def lineage(access: Access, name: str) -> Graph:
    """Gathers all that leads to and from the versions of a collection, newest first.

    Raises :class:`~artfs.errors.CollectionNotFound`. What can't be seen from here is there by its name.
    """
    return _Gathering(access).around(name)


class _Gathering:
    def __init__(self, access: Access) -> None:
        self._access = access
        self._graph = Graph()
        self._versions: dict[str, dict[str, dict[str, Any]]] = {}

    def around(self, name: str) -> Graph:
        collection = self._access.versions(name)
        todo = deque(("version", f"{name}:{status['version']}") for status in reversed(collection))
        seen = set(todo)
        while todo:
            key = todo.popleft()
            node = Node(*key, self._facts(*key))
            self._graph.nodes[key] = node
            for start, end in self._edges(node):
                self._graph.edges[start, end] = None
                for other in (start, end):
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
        return self._graph

    def _facts(self, kind: str, name: str) -> dict[str, Any]:
        try:
            if kind == "run":
                return self._access.run(name)
            collection, _, version = name.partition(":")
            if collection not in self._versions:
                found = self._access.versions(collection)
                self._versions[collection] = {status["version"]: status for status in found}
            return self._versions[collection].get(version, {})
        except (NotFound, VolumeError):
            return {}

    def _edges(self, node: Node) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
        facts = node.facts
        if node.kind == "run":
            yield from ((("version", version), node.key) for version in facts.get("inputs", ()))
            yield from ((node.key, ("version", version)) for version in facts.get("outputs", ()))
            return
        yield from ((("run", run), node.key) for run in facts.get("runs", ()))
        yield from ((node.key, ("run", run)) for run in facts.get("used_by", ()))
        if base := facts.get("base"):
            collection = node.name.partition(":")[0]
            yield ("version", base if ":" in base else f"{collection}:{base}"), node.key
