"""The lineage of versions: the graph of versions and runs around one collection.

Owns how it is collected. Knows no implementation of `Client`, nor how a graph is shown. Blocking; any thread.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from artfs.client.interface import Client
from artfs.errors import NotFound, VolumeError

Key: TypeAlias = tuple[str, str]
"""The kind of a node and its name."""


@dataclass(frozen=True, slots=True)
class LineageNode:
    """A version, by a name like ``model:v3``, or a run, by its id. ``facts`` is its status or document."""

    kind: str  # "version" or "run"
    name: str
    facts: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @property
    def key(self) -> Key:
        return self.kind, self.name


class Graph:
    """Nodes, and edges in the direction of time: a version to a run that used it, a run to what it made.

    An edge from version to version leads from the base of a patch to the patch. Deleted nodes have no facts.
    """

    def __init__(self) -> None:
        self.nodes: dict[Key, LineageNode] = {}
        self.edges: dict[tuple[Key, Key], None] = {}
        self._before: defaultdict[Key, list[Key]] = defaultdict(list)
        self._after: defaultdict[Key, list[Key]] = defaultdict(list)

    def connect(self, start: Key, end: Key) -> None:
        """Adds an edge, once. The caller adds both nodes."""
        if (start, end) not in self.edges:
            self.edges[start, end] = None
            self._after[start].append(end)
            self._before[end].append(start)

    def before(self, node: LineageNode) -> Iterator[LineageNode]:
        """Yields the nodes that lead to one."""
        return (self.nodes[key] for key in self._before.get(node.key, ()))

    def after(self, node: LineageNode) -> Iterator[LineageNode]:
        """Yields the nodes that one leads to."""
        return (self.nodes[key] for key in self._after.get(node.key, ()))

    def json(self) -> dict[str, Any]:
        return {
            "nodes": [{"kind": node.kind, "name": node.name} for node in self.nodes.values()],
            "edges": [{"from": start[1], "to": end[1]} for start, end in self.edges],
        }


def lineage(client: Client, name: str) -> Graph:
    """Returns the graph of all that leads to and from the versions of a collection, newest first.

    Raises :class:`~artfs.errors.CollectionNotFound`. What can't be seen from here is in it by name alone.
    """
    return _Gathering(client).around(name)


class _Gathering:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._graph = Graph()
        self._versions: dict[str, dict[str, dict[str, Any]]] = {}

    def around(self, name: str) -> Graph:
        collection = self._client.versions(name)
        todo = deque(("version", f"{name}:{status['version']}") for status in reversed(collection))
        seen = set(todo)
        while todo:
            key = todo.popleft()
            node = LineageNode(*key, self._facts(*key))
            self._graph.nodes[key] = node
            for start, end in self._edges(node):
                self._graph.connect(start, end)
                for other in (start, end):
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
        return self._graph

    def _facts(self, kind: str, name: str) -> dict[str, Any]:
        try:
            if kind == "run":
                return self._client.run(name)
            collection, _, version = name.partition(":")
            if collection not in self._versions:
                found = self._client.versions(collection)
                self._versions[collection] = {status["version"]: status for status in found}
            return self._versions[collection].get(version, {})
        except (NotFound, VolumeError):
            return {}

    def _edges(self, node: LineageNode) -> Iterator[tuple[Key, Key]]:
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
