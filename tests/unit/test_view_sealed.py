"""The cache of sealed nodes is bounded for all versions together."""

from __future__ import annotations

from pathlib import Path

import pytest

from artfs.model.entry import DirEntry
from artfs.seal.seal import Request
from artfs.vfs.node import ROOT, NeedsWork, Node
from artfs.vfs.sealed import NodeCache, SealedNode
from artfs.volume.volume import Volume
from tests.conformance.helpers import write
from tests.conformance.view import ViewInMemory


def test_all_versions_share_one_bound(tmp_path: Path) -> None:
    with Volume.init(tmp_path / "volume") as volume:
        memory = ViewInMemory(volume)
        view = memory.view
        view._kept = kept = NodeCache(5)
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


def test_a_deep_working_directory_is_found_incrementally_after_a_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels, lookups = 300, list[bytes]()
    with Volume.init(tmp_path / "volume") as volume:
        memory = ViewInMemory(volume)
        memory.pending_tree()
        way: list[Node] = [memory.view.pending(volume.trees.get("suite", b"test-1"))]
        for _ in range(levels):
            way.append(way[-1].mkdir(b"d", 0o755, ROOT))
        volume.finish(volume.catalog.collection("suite"), b"test-1", Request(wait=0))

        look_up = SealedNode.lookup

        def counted(self: SealedNode, name: bytes) -> Node | None:
            lookups.append(name)
            return look_up(self, name)

        monkeypatch.setattr(SealedNode, "lookup", counted)
        at_once = []
        for _ in range(levels):
            before = len(lookups)
            try:
                way[-1].current()
            except NeedsWork as work:
                work.prepare()
            at_once.append(len(lookups) - before)
        assert sum(at_once) == levels
        assert max(at_once) < levels / 2
        for node in way:
            assert node.current() is node
            assert node.attributes().mtime_ns
        assert way[-1].lookup(b"none") is None
        assert lookups == [b"d"] * levels + [b"none"]
