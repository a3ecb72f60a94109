"""What is kept in memory of sealed trees: a bounded number of nodes, of all versions together."""

from __future__ import annotations

from pathlib import Path

from artfs.model.entry import DirEntry
from artfs.seal.seal import Request
from artfs.view.sealed import KeptNodes
from artfs.volume import Volume
from tests.conformance.helpers import write
from tests.conformance.view import ViewInMemory


def test_all_versions_share_one_bound(tmp_path: Path) -> None:
    with Volume.init(tmp_path / "volume") as volume:
        memory = ViewInMemory(volume)
        view = memory.view
        view._kept = kept = KeptNodes(5)
        for number in range(4):
            fs = memory.pending_tree()
            for name in range(4):
                write(fs, b"%d" % name, b"%d" % number)
            fs_id = f"test-{number + 1}".encode()
            volume.finish(volume.catalog.collection("suite"), fs_id, Request(wait=0))
        collection = volume.catalog.collection("suite")
        roots = [view.sealed(collection, record).root for record in collection.versions()]
        for _ in range(2):
            for root in roots:
                assert isinstance(root.entry, DirEntry)
                for name in range(4):
                    node = root.lookup(b"%d" % name)
                    assert node is not None
                    assert view.sealed_node(node.ino) is node
                    assert len(kept) <= 5
