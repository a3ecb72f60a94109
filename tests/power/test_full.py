"""A full or read-only disk: an errno, no loss, and with room the same call succeeds."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.seal.seal import Request
from artfs.store import reserve
from artfs.store.layout import COLLECTIONS, Layout
from artfs.volume.volume import Volume
from tests.conformance.helpers import fails
from tests.crash.faults import join_threads
from tests.crash.harness import NAME, Case, put
from tests.formats import format_1
from tests.mount.mounting import artfs
from tests.power.images import image, needs, tmpfs
from tests.thorough import THOROUGH

_KIB = 1024


@pytest.fixture(params=["tmpfs", "few inodes", "ext4"])
def small(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory on a small filesystem."""
    needs("ext4")
    if request.param == "ext4":
        with image("ext4", 24 * _KIB * _KIB) as made:
            yield made.root
    else:
        with tmpfs("size=24m" if request.param == "tmpfs" else "size=200m,nr_inodes=900") as made_in_memory:
            yield made_in_memory


class Fill:
    """Uses all space: first the bytes, then the inodes."""

    def __init__(self, root: Path, keep: int = 0) -> None:
        self._root = root / "fill"
        self._root.mkdir(exist_ok=True)
        self._number = 0
        self._bytes(keep)
        self._names()

    def _bytes(self, keep: int) -> None:
        space = os.statvfs(self._root)
        if space.f_bavail * space.f_frsize > 64 << 20:
            return  # the inodes are the scarce resource
        for size in (1 << 20, 1 << 16, 4096, 1):
            try:
                while True:
                    path = self._root / f"bytes-{self._number}"
                    self._number += 1
                    with path.open("wb", buffering=0) as file:
                        file.write(b"x" * size)
                        if file.tell() < size:
                            break
            except OSError as error:
                _check_full(error)
        for path in sorted(self._root.glob("bytes-*"), key=lambda path: path.stat().st_size)[:keep]:
            path.unlink()

    def _names(self) -> None:
        try:
            while 0 < os.statvfs(self._root).f_favail < 10_000:
                (self._root / f"name-{self._number}").touch()
                self._number += 1
        except OSError as error:
            _check_full(error)

    def give(self, count: int) -> bool:
        """Frees some files' space; returns False if there are none left."""
        found = sorted(self._root.iterdir())[:count]
        for path in found:
            path.unlink()
        return bool(found)


def test_a_volume_of_an_older_format_opens_on_a_full_disk(small: Path) -> None:
    """Otherwise no versions could be deleted to free space."""
    path = format_1(small / "volume")
    with Layout.open(path) as layout, layout.directory(COLLECTIONS) as fd, layout.mount_lock.shared():
        reserve.ensure(fd)
    Fill(small)
    with Volume.open(path) as volume:
        assert volume.layout.is_current
        assert volume.catalog.collection("model").newest() is not None


def files(root: Path) -> None:
    for number in range(60):
        put(root, f"dir-{number % 7}/{number}", b"%d " % number * 500)


def others(root: Path) -> None:
    for number in range(30):
        put(root, f"new-{number % 5}/{number}", b"%d! " % number * 500)


def test_a_finish_on_a_full_disk_leaves_the_old_or_the_new_state(small: Path) -> None:
    """It is repeated while space is freed little by little."""
    with Volume.init(small / "volume") as volume:
        volume.catalog.create(NAME)
        case = Case(volume)
        case.commit(b"first", files, "best")
        case.start(b"job", others)
        before, tree = case.state(), case.entries(b"job")
        fill = Fill(small)
        refused = 0
        while True:
            try:
                answer = case.finish(b"job", "best")
                break
            except OSError as error:
                _check_full(error)
            refused += 1
            after = case.state()
            assert after.versions.items() >= before.versions.items()
            if not case.is_committed:
                assert after == before
            assert fill.give(2)
        assert refused
        case.check_finished(b"job", tree, answer)
        assert case.collection.aliases() == {"best": "v1"}
        join_threads()
        while fill.give(100):
            pass
        case.check_sound()
        volume.maintenance.gc()
        assert _left_over(small / "volume") == []


def test_deleting_and_gc_work_on_a_full_disk(small: Path) -> None:
    with Volume.init(small / "volume") as volume:
        volume.catalog.create(NAME)
        case = Case(volume)
        case.commit(b"first", files)
        case.commit(b"second", others)
        case.start(b"job", files)
        case.start(b"patch", lambda _: None)
        volume.set_base(case.collection, volume.trees.get(NAME, b"patch"), "v0", Request(wait=0))
        Fill(small)
        case.mounted(b"job").unlink(b"dir-1/1")
        free = _free(small)
        case.discard(b"job")
        join_threads()
        assert _free(small) > free
        Fill(small)
        free = _free(small)
        case.collection.delete_version(1)
        volume.maintenance.gc()
        assert _free(small) > free
        assert case.collection.numbers() == [0]
        case.mounted(b"patch").unlink(b"dir-1/1")
        case.finish(b"patch")
        case.check_sound()
        join_threads()


def test_a_version_can_be_deleted_without_any_space(small: Path) -> None:
    with Volume.init(small / "volume") as volume:
        volume.catalog.create(NAME)
        case = Case(volume)
        case.commit(b"first", files)
        Fill(small)
        case.collection.delete_version(0)
        volume.maintenance.gc()
        assert case.collection.numbers() == []
        join_threads()


def test_commands_report_a_full_disk_and_succeed_later(small: Path) -> None:
    """put and the SDK print one line, leave nothing half made, and succeed with room."""
    source = small / "source"
    source.mkdir()
    others(source)
    volume = small / "volume"
    fill = Fill(small)
    done = artfs("init", volume)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    while artfs("init", volume).returncode:
        assert fill.give(3)
    fill = Fill(small)
    done = artfs("--volume", volume, "put", source, "--name", "data", "--alias", "best")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "No space left" in done.stderr
    while fill.give(100):
        pass
    assert artfs("--volume", volume, "put", source, "--name", "data", "--alias", "best").returncode == 0
    done = artfs("--volume", volume, "get", "data:best", small / "got")
    assert done.returncode == 0, done.stderr
    assert sum(1 for path in (small / "got").rglob("*") if path.is_file()) == 30
    assert artfs("--volume", volume, "check").returncode == 0


def _check_full(error: OSError) -> None:
    assert error.errno == errno.ENOSPC


def _free(path: Path) -> int:
    space = os.statvfs(path)
    return space.f_bfree + space.f_ffree


def _left_over(volume: Path) -> list[str]:
    return [path.name for path in volume.rglob(".artfs-tmp.*")] + os.listdir(volume / "trash")


def test_a_read_only_disk_is_reported() -> None:
    needs("ext4")
    with image("ext4") as disk:
        path = disk.root / "volume"
        with Volume.init(path) as volume:
            volume.catalog.create(NAME)
            case = Case(volume)
            case.commit(b"first", files, "best")
            case.commit(b"second", others)
            case.start(b"job", others)
            state = case.state()
        disk.remount("ro")
        with Volume.open(path) as volume:
            case = Case(volume)
            assert case.state() == state
            refused = [
                lambda: case.finish(b"job"),
                lambda: case.collection.set_alias("other", "v0"),
                lambda: case.collection.delete_version(1),
                lambda: case.start(b"new", files),
                lambda: case.discard(b"job"),
                lambda: volume.catalog.create("more"),
                lambda: Volume.init(disk.root / "new"),
                lambda: case.collection.update_labels(0, tags=("a",)),
            ]
            for change in refused:
                with fails(errno.EROFS):
                    change()
            assert case.state() == state
        for words in (["put", "/etc/hostname", "--name", "data"], ["alias", f"{NAME}:v0", "x"]):
            done = artfs("--volume", path, *words)
            assert done.returncode == 1, words
            assert "Read-only file system" in done.stderr, done.stderr
            assert "Traceback" not in done.stderr
        for words in (
            ["ls"],
            ["cat", f"{NAME}:best", "dir-1/1"],
            ["check"],
            ["show", f"{NAME}:v0"],
            ["pending"],
        ):
            done = artfs("--volume", path, *words)
            assert done.returncode == 0, (words, done.stderr)


@pytest.mark.skipif(not THOROUGH, reason="takes a minute: set $ARTFS_THOROUGH")
def test_equal_files_may_exceed_the_maximum_of_links() -> None:
    """The maximum is 65,000 on ext4."""
    count = 70_000
    needs("ext4")
    with (
        image("ext4", 600 * _KIB * _KIB, inodes=200_000) as disk,
        Volume.init(disk.root / "volume") as volume,
    ):
        volume.catalog.create(NAME)
        case = Case(volume)

        def equal(root: Path) -> None:
            for number in range(count):
                put(root, f"{number % 100}/{number}", b"equal")

        assert case.commit(b"job", equal).version == "v0"
        assert case.collection.record(0).file_count == count
        case.start(b"linked", lambda _: None)
        tree = case.tree(b"linked")
        (tree / "0").write_bytes(b"linked")
        for number in range(1, 65_000):
            os.link(tree / "0", tree / f"{number}")
        assert case.finish(b"linked").version == "v1"
        assert case.collection.record(1).file_count == 65_000
        assert volume.maintenance.check().sound
        join_threads()
