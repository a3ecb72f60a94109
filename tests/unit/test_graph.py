"""The graph of versions and runs as text."""

from __future__ import annotations

from artfs.cli.graph import as_text
from artfs.client.lineage import Graph, LineageNode


def graph_of(*edges: tuple[str, str]) -> Graph:
    """Versions have a colon in their names, runs have none."""
    graph = Graph()
    for edge in edges:
        for name in edge:
            node = LineageNode("version" if ":" in name else "run", name)
            graph.nodes.setdefault(node.key, node)
        start, end = (("version" if ":" in name else "run", name) for name in edge)
        graph.connect(start, end)
    return graph


def test_repeated_nodes_are_not_expanded_again() -> None:
    graph = graph_of(("d:v0", "run"), ("e:v0", "run"), ("run", "m:v0"), ("m:v0", "m:v1"), ("d:v0", "run"))
    assert len(graph.edges) == 4
    assert list(as_text(graph, "m")) == [
        "m:v0",
        "├─ made by run",
        "│  ├─ used d:v0",
        "│  └─ used e:v0",
        "└─ base of m:v1",
        "m:v1",
        "└─ patch of m:v0 ...",
    ]


def test_a_long_chain_of_patches_is_shown() -> None:
    graph = graph_of(*((f"m:v{number}", f"m:v{number + 1}") for number in range(5000)))
    lines = list(as_text(graph, "m"))
    tops, below_the_first, above_others, below_others = 5001, 5000, 5000, 4999
    assert len(lines) == tops + below_the_first + above_others + below_others
    assert lines[:3] == ["m:v0", "└─ base of m:v1", "   └─ base of m:v2"]
