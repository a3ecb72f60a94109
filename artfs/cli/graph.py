"""The graph of versions and runs as text, and as dot for Graphviz. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from artfs.client.lineage import Graph, Key, LineageNode
from artfs.printing import printable


def as_text(graph: Graph, name: str) -> Iterator[str]:
    """Yields a tree for each version of a collection, newest first: the runs that made and used it, its base.

    A node that was shown before is shown again by its name and an ellipsis only.
    """
    shown: set[Key] = set()
    for node in graph.nodes.values():
        if node.kind == "version" and node.name.partition(":")[0] == name:
            yield _label(node)
            shown.add(node.key)
            yield from _around(graph, node, shown)


def _around(graph: Graph, top: LineageNode, shown: set[Key]) -> Iterator[str]:
    # No recursion: a chain of patches can be longer than the stack allows.
    todo = _branches(graph, top, None, "")
    while todo:
        branch = todo.pop()
        again = branch.node.key in shown
        corner = "└─" if branch.last else "├─"
        yield f"{branch.indent}{corner} {branch.verb} {_label(branch.node)}{' ...' if again else ''}"
        if not again:
            shown.add(branch.node.key)
            indent = branch.indent + ("   " if branch.last else "│  ")
            todo += _branches(graph, branch.node, branch.above, indent)


class _Branch(NamedTuple):
    """A line still to be shown: a node that is adjacent to `above`."""

    indent: str
    verb: str
    node: LineageNode
    above: LineageNode
    last: bool


def _branches(graph: Graph, node: LineageNode, above: LineageNode | None, indent: str) -> list[_Branch]:
    """Returns the nodes adjacent to a node except `above`, in reverse order."""
    if node.kind == "version":
        found = [(_verb(other), other) for other in graph.before(node)]
        found += [("used by" if other.kind == "run" else "base of", other) for other in graph.after(node)]
    else:
        found = [("used", other) for other in graph.before(node)]
        found += [("made", other) for other in graph.after(node)]
    kept = [(verb, other) for verb, other in found if other is not above]
    return [
        _Branch(indent, verb, other, node, number == 0) for number, (verb, other) in enumerate(reversed(kept))
    ]


def _verb(other: LineageNode) -> str:
    return "made by" if other.kind == "run" else "patch of"


def _label(node: LineageNode) -> str:
    facts = node.facts
    if node.kind == "version":
        more = list(facts.get("aliases", ()))
    else:
        more = [text for key in ("group", "job_type") if (text := facts.get(key))]
        if facts.get("state") not in (None, "finished"):
            more.append(facts["state"])
    return printable(node.name + (f" ({', '.join(more)})" if more else ""))


def as_dot(graph: Graph) -> Iterator[str]:
    """Yields the lines of a Graphviz file: versions are boxes, runs ellipses."""
    yield "digraph lineage {"
    yield "  rankdir=LR;"
    for node in graph.nodes.values():
        shape = "box" if node.kind == "version" else "ellipse"
        yield f"  {_id(node.key)} [label={_quoted(_label(node))}, shape={shape}];"
    for start, end in graph.edges:
        yield f"  {_id(start)} -> {_id(end)};"
    yield "}"


def _id(key: Key) -> str:
    return _quoted(f"{key[0]} {key[1]}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
