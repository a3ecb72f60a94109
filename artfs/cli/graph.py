"""The graph of versions and runs, as text for people and as dot for Graphviz. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

from artfs.access.lineage import Graph, Node
from artfs.errors import printable


def as_text(graph: Graph, name: str) -> Iterator[str]:
    """Yields a tree for each version of a collection, newest first: who made it of what, who used it.

    What was shown above is not shown again below it, but for its name and an ellipsis.
    """
    shown: set[tuple[str, str]] = set()
    for node in graph.nodes.values():
        if node.kind == "version" and node.name.partition(":")[0] == name:
            yield _label(node)
            shown.add(node.key)
            yield from _around(graph, node, "", shown)


def _around(
    graph: Graph, node: Node, indent: str, shown: set[tuple[str, str]], above: Node | None = None
) -> Iterator[str]:
    if node.kind == "version":
        branches = [(_verb(other), other) for other in graph.before(node)]
        branches += [("used by" if other.kind == "run" else "base of", other) for other in graph.after(node)]
    else:
        branches = [("used", other) for other in graph.before(node)]
        branches += [("made", other) for other in graph.after(node)]
    branches = [branch for branch in branches if branch[1] is not above]
    for number, (verb, other) in enumerate(branches):
        last = number + 1 == len(branches)
        again = other.key in shown
        yield f"{indent}{'└─' if last else '├─'} {verb} {_label(other)}{' ...' if again else ''}"
        if not again:
            shown.add(other.key)
            yield from _around(graph, other, indent + ("   " if last else "│  "), shown, node)


def _verb(other: Node) -> str:
    return "made by" if other.kind == "run" else "patch of"


def _label(node: Node) -> str:
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


def _id(key: tuple[str, str]) -> str:
    return _quoted(f"{key[0]} {key[1]}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
