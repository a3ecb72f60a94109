"""Check: what counts as damaged, the paths that it affects, and repair."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from artfs.errors import Damaged
from artfs.model.digest import Algorithm, BlobId, blob_id, digest_of, text
from artfs.model.entry import DirEntry, FileEntry
from artfs.model.tree import build
from artfs.store import regular_files
from artfs.store.check import Report, check
from artfs.store.shards import tree_path
from tests.unit.stores import Volume, directory


def run(volume: Volume, *roots: DirEntry, repair: bool = False, spare: tuple[int, ...] = ()) -> Report:
    labels = [(f"m/v{number}", root) for number, root in enumerate(roots)]
    return check(volume.layout, volume.store, lambda: labels, repair=repair, spare=lambda: spare)


def touched(report: Report) -> list[tuple[str, list[str]]]:
    return [(f.kind, [f"{t.version}:{t.path}" for t in f.touches]) for f in report.findings]


def tree_file(volume: Volume, root: DirEntry) -> Path:
    return volume.path / "objects/trees" / tree_path(root.tree).decode()


def find(volume: Volume, root: DirEntry, name: bytes) -> BlobId:
    found = volume.store.reader.find(root.tree, name)
    assert found is not None
    assert isinstance(found[1], FileEntry)
    return found[1].blob


def test_a_sound_volume_has_no_findings(volume: Volume) -> None:
    a = volume.tree({"a": b"1", "d": {"b": b"22", "e": {}}, "same": b"1"})
    b = volume.tree({f"{n:05}": b"%d" % n for n in range(1500)})
    seen: list[tuple[str, int, int]] = []
    report = check(
        volume.layout,
        volume.store,
        lambda: [("m/v0", a), ("m/v1", b), ("m/x", a.tree)],
        progress=lambda *what: seen.append(what),
    )
    assert report.findings == []
    assert report.sound
    assert (report.roots, report.blobs, report.surplus_blobs, report.surplus_trees) == (2, 1500, 0, 0)
    assert report.trees > 5
    assert seen[-1] == ("blobs", report.bytes, report.bytes)
    assert msgspec.json.decode(msgspec.json.encode(report))["roots"] == 2


def test_each_finding_names_every_path(volume: Volume) -> None:
    shared = {"w": b"weights", "x": b"other"}
    first = volume.tree({"d": shared, "copy": b"weights"})
    second = volume.tree({"deep": {"er": shared}})
    third = volume.tree({"fine": b"fine"})
    blob = find(volume, first, b"copy")
    volume.blob_file(blob).write_bytes(b"WEIGHTS")
    report = run(volume, first, second, third)
    assert touched(report) == [("blob", ["m/v0:copy", "m/v0:d/w", "m/v1:deep/er/w"])]
    assert report.findings[0].id == text(blob)
    assert "do not match" in report.findings[0].why
    assert not report.sound
    volume.blob_file(blob).unlink()
    assert "missing" in run(volume, first).findings[0].why
    volume.blob_file(blob).mkdir()
    assert "can't be opened" in run(volume, first).findings[0].why


def test_names_of_any_bytes_are_printable(volume: Volume) -> None:
    blob = volume.add(b"data")
    entry = FileEntry(b"a\xff\nb", 0o644, 0, 0, 0, 4, blob)
    root = build([entry], volume.store.algorithm, volume.store.put).directory(b"", 0o755, 0, 0, 0)
    volume.blob_file(blob).unlink()
    assert touched(run(volume, root)) == [("blob", ["m/v0:a\\xff\\nb"])]


@pytest.mark.parametrize("how", ["missing", "short", "other", "no page", "a directory"])
def test_damaged_pages_are_found(volume: Volume, how: str) -> None:
    root = volume.tree({"d": {"e": {"f": b"1"}}, "g": b"2"})
    found = volume.store.reader.find(root.tree, b"d")
    assert found is not None
    inner = found[1]
    assert isinstance(inner, DirEntry)
    file = tree_file(volume, inner)
    data = file.read_bytes()
    file.unlink()
    match how:
        case "short":
            file.write_bytes(data[:5])
        case "other":
            file.write_bytes(data.replace(b"e", b"f"))
        case "no page":
            file.write_bytes(b"")
        case "a directory":
            file.mkdir()
    report = run(volume, root)
    assert touched(report) == [("tree", ["m/v0:d"])]
    assert report.blobs == 1


def test_a_missing_page_of_a_large_directory_is_found(volume: Volume) -> None:
    root = volume.tree({"big": {f"{n:05}": b"x" for n in range(3000)}})
    found = volume.store.reader.find(root.tree, b"big")
    assert found is not None
    page = volume.store.reader.page(found[1].tree)  # type: ignore[union-attr]
    volume.store.remove_tree(page.items[0].tree)  # type: ignore[union-attr]
    assert touched(run(volume, root)) == [("tree", ["m/v0:big"])]


def test_wrong_summaries_are_found(volume: Volume) -> None:
    inner = volume.tree({"f": b"1"}, b"d")
    for lie in ({"bytes": 2}, {"content": inner.content[:-1] + b"\0"}, {"reach": 0}):
        liar = msgspec.structs.replace(inner, **lie)
        outer = build([liar], volume.store.algorithm, volume.store.put).directory(b"", 0o755, 0, 0, 0)
        report = run(volume, outer)
        assert touched(report) == [("tree", ["m/v0:"])], lie
        assert "its entry 'd' disagrees" in report.findings[0].why
    root = volume.tree({"f": b"1"})
    report = run(volume, msgspec.structs.replace(root, content=inner.content[:-1] + b"\0"))
    assert touched(report) == [("version", ["m/v0:"])]
    assert "content digest" in report.findings[0].why


def test_wrong_sizes_are_found(volume: Volume) -> None:
    blob = volume.add(b"data")
    entries = [FileEntry(b"a", 0o644, 0, 0, 0, 4, blob), FileEntry(b"b", 0o644, 0, 0, 0, 5, blob)]
    root = build(entries, volume.store.algorithm, volume.store.put).directory(b"", 0o755, 0, 0, 0)
    report = run(volume, root, repair=True)
    assert touched(report) == [("blob", ["m/v0:b"])]
    assert "it has 4 bytes, but entries say 5" in report.findings[0].why
    assert os.listdir(volume.path / "damaged") == []
    os.close(volume.store.open_blob(blob, 4))


def test_surplus_objects_are_counted(volume: Volume) -> None:
    kept = volume.tree({"a": b"1"})
    volume.tree({"a": b"1", "b": b"22"})
    report = run(volume, kept)
    assert (report.surplus_blobs, report.surplus_trees) == (1, 1)
    assert report.surplus_bytes > 2
    assert report.sound


def test_repair_marks_what_it_cannot_replace(volume: Volume) -> None:
    root = volume.tree({"bad": b"data", "gone": b"nothing", "fine": b"fine"})
    bad, gone = find(volume, root, b"bad"), find(volume, root, b"gone")
    volume.blob_file(bad).write_bytes(b"DATA")
    volume.blob_file(gone).unlink()
    assert os.listdir(volume.path / "damaged") == []
    run(volume, root)
    os.close(volume.store.open_blob(bad, 4))
    report = run(volume, root, repair=True)
    assert {"missing" in f.why: f.repaired for f in report.findings} == {False: "marked", True: ""}
    with pytest.raises(Damaged):
        volume.store.open_blob(bad, 4)
    assert volume.blob_file(bad).read_bytes() == b"DATA"
    assert os.listdir(volume.path / "damaged") == [text(bad)]
    volume.blob_file(bad).write_bytes(b"data")
    volume.add(b"nothing")
    report = run(volume, root, repair=True)
    assert report.findings == []
    assert report.marks_removed == 1
    os.close(volume.store.open_blob(bad, 4))


def test_repair_takes_copies_from_pending_trees(volume: Volume, tmp_path: Path) -> None:
    root = volume.tree({"bad": b"data", "gone": b"nothing"})
    bad, gone = find(volume, root, b"bad"), find(volume, root, b"gone")
    volume.blob_file(bad).write_bytes(b"DATA")
    volume.blob_file(gone).unlink()
    spare = tmp_path / "spare"
    (spare / "deep/er").mkdir(parents=True)
    (spare / "atad").write_bytes(b"atad")
    (spare / "link").symlink_to("data")
    os.mkfifo(spare / "fifo")
    (spare / "deep/er/data").write_bytes(b"data")
    (spare / "deep/nothing").write_bytes(b"nothing")
    before = len(os.listdir("/proc/self/fd"))
    with directory(spare) as fd:
        report = run(volume, root, repair=True, spare=(fd,))
    assert len(os.listdir("/proc/self/fd")) == before
    assert [f.repaired for f in report.findings] == ["replaced"] * 2
    assert report.sound
    assert run(volume, root).findings == []
    # A copy, not a link: the pending file may still be written.
    assert volume.blob_file(bad).stat().st_nlink == 1
    assert os.listdir(volume.path / "damaged") == []


def test_repair_swaps_blobs_that_have_each_others_bytes(volume: Volume) -> None:
    root = volume.tree({"a": b"aaaa", "b": b"bbbb", "c": b"cccc"})
    a, b, c = (find(volume, root, name) for name in (b"a", b"b", b"c"))
    spare = volume.add(b"surplus")
    volume.blob_file(a).rename(volume.path / "x")
    volume.blob_file(b).rename(volume.blob_file(a))
    (volume.path / "x").rename(volume.blob_file(b))
    volume.blob_file(c).rename(volume.blob_file(spare))
    report = run(volume, root, repair=True)
    assert [f.repaired for f in report.findings] == ["replaced"] * 3
    assert run(volume, root).findings == []
    assert volume.blob_file(a).read_bytes() == b"aaaa"


def test_repair_does_not_guess_between_colliding_blobs(volume: Volume, tmp_path: Path) -> None:
    blob = volume.add(b"data")
    twin = blob_id(Algorithm.XXH128, digest_of(blob), 1)
    entries = [FileEntry(n, 0o644, 0, 0, 0, 4, b) for n, b in ((b"a", blob), (b"b", twin))]
    root = build(entries, volume.store.algorithm, volume.store.put).directory(b"", 0o755, 0, 0, 0)
    spare = tmp_path / "spare"
    spare.mkdir()
    (spare / "data").write_bytes(b"data")
    with directory(spare) as fd:
        report = run(volume, root, repair=True, spare=(fd,))
    assert [(f.id, f.repaired) for f in report.findings] == [(text(twin), "")]
    assert not volume.blob_file(twin).exists()


def test_an_unreadable_file_is_a_finding(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    root = volume.tree({"a": b"data"})

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(regular_files, "hash_and_size", fail)
    assert "can't be read: Input/output error" in run(volume, root).findings[0].why


def test_repair_sweeps_stale_temps(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artfs.store.durable.STALE_AFTER_SECONDS", -1.0)
    for place in ("objects/blobs", "runs", "."):
        (volume.path / place / ".artfs-tmp.999999999.1").write_bytes(b"")
    assert run(volume).temps_removed == 0
    assert run(volume, repair=True).temps_removed == 3


def test_directories_may_be_deeper_than_the_stack(volume: Volume) -> None:
    root = volume.tree({"f": b"data"}, b"d")
    for _ in range(1500):
        root = build([root], volume.store.algorithm, volume.store.put).directory(b"d", 0o755, 0, 0, 0)
    assert run(volume, root).findings == []
    for blob in volume.store.blobs():
        volume.store.remove_blob(blob)
    [finding] = run(volume, root).findings
    assert finding.touches[0].path == "d/" * 1500 + "f"
