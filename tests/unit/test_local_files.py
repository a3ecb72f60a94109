"""References to files of this machine."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artfs.errors import ArtfsError, Changed, Interrupted, InvalidCommand, RemoteMissing, Unreachable
from artfs.linux import mountinfo
from artfs.model.digest import Algorithm
from artfs.references import LocalFile, Requester, Resolver, local_files, uris
from artfs.references.allowed_mounts import AllowedMounts
from artfs.store import durable, regular_files
from tests.conformance.helpers import eventually
from tests.unit.stores import as_nobody
from tests.unit.test_object_cache import together

pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may read, down from the root."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(os.path.realpath(name))


def resolver(*, world_readable_only: bool = False, algorithm: Algorithm = Algorithm.XXH128) -> Resolver:
    return Resolver(None, algorithm=algorithm, world_readable_only=world_readable_only)


def make(path: Path, data: bytes = b"data", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def uri_of(path: Path | bytes) -> str:
    return uris.file_uri(tuple(part for part in os.fsencode(path).split(b"/") if part))


@contextmanager
def opened(remote: Resolver, uri: str, size: int, checksum: bytes) -> Iterator[LocalFile]:
    file = remote.open(uri, size, checksum)
    assert isinstance(file, LocalFile)
    try:
        yield file
    finally:
        os.close(file.fd)


def read(remote: Resolver, uri: str, size: int = 0, checksum: bytes = b"") -> bytes:
    with opened(remote, uri, size, checksum) as file:
        assert not os.get_inheritable(file.fd)
        return os.read(file.fd, 1 << 20)


def tag(data: bytes) -> bytes:
    return b"xxh128:" + Algorithm.XXH128.digest(data).hex().encode()


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves the clock forward, so that every file seems to have changed an hour ago."""
    monkeypatch.setattr(local_files, "time", SimpleNamespace(time_ns=lambda: time.time_ns() + 3600 * 10**9))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the inode of each file that is hashed."""
    inodes: list[int] = []
    measure = regular_files.hash_and_size

    def note(algorithm: Algorithm, fd: int, **named: Any) -> tuple[bytes, int]:
        inodes.append(os.fstat(fd).st_ino)
        return measure(algorithm, fd, **named)

    monkeypatch.setattr(regular_files, "hash_and_size", note)
    return inodes


# ---- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world_readable_only", [False, True])
def test_a_file_is_resolved_and_read(place: Path, world_readable_only: bool) -> None:
    path, remote = make(place / "a.bin"), resolver(world_readable_only=world_readable_only)
    assert remote.list_objects(uri_of(path)) == [(b"a.bin", uri_of(path), 4, tag(b"data"))]
    assert remote.list_objects(uri_of(path), checksum=False) == [(b"a.bin", uri_of(path), 4, b"")]
    assert read(remote, uri_of(path), 4, tag(b"data")) == b"data"
    assert read(remote, uri_of(path), 4) == b"data"
    assert read(remote, uri_of(path)) == b"data"
    remote.verify(uri_of(path), 4, tag(b"data"))
    remote.close()


def test_file_uris_are_recorded_in_one_spelling(place: Path) -> None:
    path = make(place / "\u00e4 b")
    assert resolver().list_objects(f"file://localhost/{place}/./\u00e4 b")[0].uri == uri_of(path)


def test_digests_are_recorded_with_the_volumes_algorithm_and_checked_with_their_own(place: Path) -> None:
    path = make(place / "a")
    remote = resolver(algorithm=Algorithm.SHA256)
    [found] = remote.list_objects(uri_of(path))
    assert found.checksum == b"sha256:" + Algorithm.SHA256.digest(b"data").hex().encode()
    assert read(remote, found.uri, 4, tag(b"data")) == b"data"
    assert read(resolver(), found.uri, 4, found.checksum) == b"data"
    with pytest.raises(Unreachable, match="checksum is not that of a file"):
        remote.open(found.uri, 4, b"etag:x")


@pytest.mark.parametrize("world_readable_only", [False, True])
def test_a_directory_lists_all_regular_files_below_sorted(place: Path, world_readable_only: bool) -> None:
    names = [b"b", b"a/z", b"a/deep/er/x", b"a-", b"\xff\xfe", b"q?#% ;\n\\", b"empty"]
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(place), b"top", name)))
        make(path, b"" if name == b"empty" else name)
    top = place / "top"
    (top / "nothing").mkdir()
    (top / "link").symlink_to("b")
    (top / "a" / "up").symlink_to("..")
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(top / "socket"))
    remote = resolver(world_readable_only=world_readable_only)
    found = remote.list_objects(uri_of(top))
    assert [item.name for item in found] == sorted(names)
    assert [item.name for item in remote.list_objects(uri_of(top) + "/", checksum=False)] == sorted(names)
    for item in found:
        data = b"" if item.name == b"empty" else item.name
        assert (item.size, item.checksum) == (len(data), tag(data))
        assert read(remote, item.uri, item.size, item.checksum) == data
    assert remote.list_objects(uri_of(top / "nothing")) == []


def test_a_deep_directory_takes_few_descriptors(place: Path) -> None:
    import resource

    path = place
    for _ in range(60):
        path /= "d"
    make(path / "f")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
        [found] = resolver().list_objects(uri_of(place))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.name == b"d/" * 60 + b"f"


def test_too_many_objects_are_refused_before_any_is_hashed(place: Path, hashed: list[int]) -> None:
    for number in range(4):
        make(place / f"{number % 2}" / f"{number}")
    assert len(resolver().list_objects(uri_of(place), max_objects=4)) == 4
    hashed.clear()
    with pytest.raises(InvalidCommand, match=r"more than 3 objects: .*max_objects"):
        resolver().list_objects(uri_of(place), max_objects=3)
    with pytest.raises(InvalidCommand, match="more than 0"):
        resolver().list_objects(uri_of(place / "0/0"), max_objects=0)
    assert hashed == []


def test_another_size_is_a_change_without_hashing(place: Path, hashed: list[int]) -> None:
    path = make(place / "a", b"longer")
    for checksum in (tag(b"data"), b""):
        with pytest.raises(Changed) as changed:
            resolver().open(uri_of(path), 4, checksum)
        assert (changed.value.expected, changed.value.found) == ("4 bytes", "6 bytes")
    with pytest.raises(Changed):
        resolver().open(uri_of(path), 0, tag(b""))
    assert hashed == []


@pytest.mark.usefixtures("long_ago")
def test_other_bytes_of_the_same_size_and_mtime_are_a_change(place: Path, hashed: list[int]) -> None:
    path, remote = make(place / "a"), resolver()
    assert read(remote, uri_of(path), 4, tag(b"data")) == b"data"
    before = path.stat()
    path.write_bytes(b"DATA")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # file times may advance in steps of 4 ms
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(Changed) as changed:
        remote.open(uri_of(path), 4, tag(b"data"))
    assert (changed.value.expected, changed.value.found) == (tag(b"data").decode(), tag(b"DATA").decode())
    with pytest.raises(Changed):
        remote.verify(uri_of(path), 4, tag(b"data"))


@pytest.mark.usefixtures("long_ago")
def test_an_unchanged_file_is_hashed_once(place: Path, hashed: list[int]) -> None:
    path, remote = make(place / "a"), resolver()
    remote.list_objects(uri_of(path))
    for _ in range(3):
        read(remote, uri_of(path), 4, tag(b"data"))
    with pytest.raises(Changed):
        remote.open(uri_of(path), 4, tag(b"DATA"))
    assert len(hashed) == 1
    remote.verify(uri_of(path), 4, tag(b"data"))  # without what is remembered
    assert len(hashed) == 2
    remote.close()
    read(remote, uri_of(path), 4, tag(b"data"))
    assert len(hashed) == 3


def test_a_file_changed_a_moment_ago_is_hashed_each_time(place: Path, hashed: list[int]) -> None:
    path, remote = make(place / "a"), resolver()
    for _ in range(3):
        read(remote, uri_of(path), 4, tag(b"data"))
    assert len(hashed) == 3


@pytest.mark.usefixtures("long_ago")
def test_the_number_of_remembered_files_is_bounded(place: Path, hashed: list[int], monkeypatch) -> None:
    monkeypatch.setattr(local_files, "REMEMBERED", 2)
    remote = resolver()
    one, two, three = (make(place / name) for name in "123")
    for path in (one, two, one, three, one):
        read(remote, uri_of(path), 4, tag(b"data"))
    assert len(hashed) == 3
    read(remote, uri_of(two), 4, tag(b"data"))
    assert len(hashed) == 4


@pytest.mark.usefixtures("long_ago")
def test_a_file_written_while_it_is_hashed_is_not_remembered(place: Path, monkeypatch) -> None:
    path, remote = make(place / "a"), resolver()
    measure, calls = regular_files.hash_and_size, []

    def write(algorithm: Algorithm, fd: int, **named: Any) -> tuple[bytes, int]:
        result = measure(algorithm, fd, **named)
        calls.append(fd)
        path.write_bytes(b"more" * len(calls))
        return result

    monkeypatch.setattr(regular_files, "hash_and_size", write)
    with pytest.raises(Unreachable, match="it is being changed"):
        remote.list_objects(uri_of(path))
    monkeypatch.setattr(regular_files, "hash_and_size", measure)
    with pytest.raises(Changed):
        remote.open(uri_of(path), path.stat().st_size, tag(b"data"))


@pytest.mark.parametrize("world_readable_only", [False, True])
def test_other_kinds_of_files_are_refused_without_opening_them(
    place: Path, world_readable_only: bool
) -> None:
    remote = resolver(world_readable_only=world_readable_only)
    make(place / "file")
    (place / "link").symlink_to("file")
    (place / "dir").mkdir()
    os.mkfifo(place / "fifo", 0o644)  # opening it would wait for a writer
    (place / "loop").symlink_to("loop")
    for name, why in {
        "link": "a symlink; use the path of its target",
        "dir": "it is a directory",
        "fifo": "it is a fifo",
        "loop/x": "too many symlinks",
        "nothing": "no such file",
        "nothing/x": "no such file",
        "file/x": "is not a directory",
        "file/": "is not a directory",
        "x" * 300: "file name too long",
    }.items():
        with pytest.raises(Unreachable, match=why):
            remote.open(uri_of(place) + "/" + name, 4, b"")
        if name != "dir":
            with pytest.raises(Unreachable, match=why):
                remote.list_objects(uri_of(place) + "/" + name)
    with pytest.raises(Unreachable):
        remote.open("file:///dev/null", 0, b"")


@pytest.mark.parametrize("world_readable_only", [False, True])
def test_symlinks_among_the_directories_are_followed(place: Path, world_readable_only: bool) -> None:
    make(place / "v2" / "sub" / "a")
    (place / "now").symlink_to("v2/")
    (place / "v2" / "round").symlink_to("../now/./sub")
    (place / "far").symlink_to(place / "now")
    remote = resolver(world_readable_only=world_readable_only)
    for name in ("now/sub/a", "far/sub/a", "now/round/a", "far/round/a"):
        assert read(remote, uri_of(place / name), 4, tag(b"data")) == b"data"
    # A link is refused; with a slash at its end, the URI means its target.
    with pytest.raises(Unreachable, match="a symlink"):
        remote.list_objects(uri_of(place / "far"))
    [found] = remote.list_objects(uri_of(place / "far") + "/")
    assert (found.name, found.uri) == (b"sub/a", uri_of(place / "far/sub/a"))
    assert read(remote, found.uri, found.size, found.checksum) == b"data"


# ---- races ------------------------------------------------------------------------------------------------


def swap_at(monkeypatch: pytest.MonkeyPatch, name: bytes, swap: Callable[[], None]) -> None:
    """Runs an action right after a component of that name was opened with O_PATH."""
    refusal = AllowedMounts.refusal
    done: list[int] = []

    def swapping(self: AllowedMounts, fd: int) -> str | None:
        if not done and os.path.basename(os.readlink(f"/proc/self/fd/{fd}").encode()) == name:
            done.append(fd)
            swap()
        return refusal(self, fd)

    monkeypatch.setattr(AllowedMounts, "refusal", swapping)


def test_a_directory_that_becomes_a_symlink_is_not_followed(place: Path, monkeypatch) -> None:
    make(place / "dir" / "a", b"good")
    make(place / "other" / "a", b"evil")

    def swap() -> None:
        (place / "dir").rename(place / "gone")
        (place / "dir").symlink_to("other")

    swap_at(monkeypatch, b"dir", swap)
    assert read(resolver(), uri_of(place / "dir/a"), 4) == b"good"
    with pytest.raises(Changed):
        resolver().open(uri_of(place / "dir/a"), 4, tag(b"good"))


def test_a_file_that_becomes_a_fifo_is_not_opened(place: Path, monkeypatch) -> None:
    path = make(place / "a", b"good")

    def swap() -> None:
        path.unlink()
        os.mkfifo(path)

    swap_at(monkeypatch, b"a", swap)
    assert read(resolver(), uri_of(path), 4, tag(b"good")) == b"good"
    with pytest.raises(Unreachable, match="a fifo"):
        resolver().open(uri_of(path), 4, tag(b"good"))


def test_a_listed_directory_that_becomes_a_symlink_is_not_followed(place: Path, monkeypatch) -> None:
    make(place / "top" / "dir" / "a")
    make(place / "other" / "a", b"evil")
    below = local_files.LocalFiles._below

    def swapping(self, *arguments):
        listed = below(self, *arguments)
        (place / "top/dir").rename(place / "gone")
        (place / "top/dir").symlink_to("../other")
        return listed

    monkeypatch.setattr(local_files.LocalFiles, "_below", swapping)
    with pytest.raises(Unreachable):
        resolver().list_objects(uri_of(place / "top"))


def test_swapping_names_never_reads_a_closed_file(place: Path) -> None:
    """A file in a closed directory is never read, however two names are exchanged."""
    make(place / "closed" / "a", b"secret", 0o644)
    (place / "closed").chmod(0o700)
    make(place / "dir" / "a", b"public")
    (place / "link").symlink_to("closed")
    end = threading.Event()

    def swap() -> None:
        with durable.directory(parent, place.name.encode()) as fd:
            while not end.is_set():
                durable.exchange(fd, b"dir", b"link", label="t")

    parent = os.open(place.parent, os.O_RDONLY)
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        remote, seen = resolver(world_readable_only=True), set()
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            try:
                seen.add(read(remote, uri_of(place / "dir/a"), 6))
            except Unreachable as error:
                seen.add(error.why.encode())
    finally:
        end.set()
        swapper.join()
        os.close(parent)
    assert b"secret" not in seen
    assert b"public" in seen


# ---- permissions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o000, 0o611])
def test_world_readable_only_reads_files_that_every_user_may_read(place: Path, mode: int) -> None:
    path = make(place / "top" / "a", mode=mode)
    for action in (
        lambda: resolver(world_readable_only=True).list_objects(uri_of(path)),
        lambda: resolver(world_readable_only=True).list_objects(uri_of(path.parent), checksum=False),
        lambda: resolver(world_readable_only=True).open(uri_of(path), 4, b""),
        lambda: resolver(world_readable_only=True).verify(uri_of(path), 4, tag(b"data")),
    ):
        with pytest.raises(Unreachable, match="not every user may read it"):
            action()
    path.chmod(0o444)
    assert read(resolver(world_readable_only=True), uri_of(path), 4) == b"data"


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o701, 0o766])
def test_world_readable_only_passes_directories_that_every_user_may_pass(place: Path, mode: int) -> None:
    path = make(place / "top" / "sub" / "a")
    (place / "link").symlink_to("top/sub")
    (place / "top").chmod(mode)
    remote = resolver(world_readable_only=True)
    for uri in (uri_of(path), uri_of(place / "link/a")):
        with pytest.raises(Unreachable, match="not every user may read it"):
            remote.open(uri, 4, b"")
    with pytest.raises(Unreachable, match="not every user"):
        remote.list_objects(uri_of(place))
    (place / "top").chmod(0o711)
    assert read(remote, uri_of(path), 4) == b"data"
    with pytest.raises(Unreachable, match="not every user may list it"):
        remote.list_objects(uri_of(place))


def test_without_world_readable_only_the_kernel_decides(place: Path) -> None:
    path = make(place / "closed" / "a", mode=0o600)

    def run(own: Path) -> None:
        remote = resolver()
        if os.geteuid() != os.stat(path).st_uid:
            with pytest.raises(Unreachable, match="permission denied"):
                remote.open(uri_of(path), 4, b"")
            with pytest.raises(Unreachable, match="permission denied"):
                remote.list_objects(uri_of(path.parent))
        mine = make(own / "a", mode=0o600)
        assert read(remote, uri_of(mine), 4, tag(b"data")) == b"data"
        mine.chmod(0)
        with pytest.raises(Unreachable, match="permission denied"):
            remote.open(uri_of(mine), 4, b"")

    as_nobody(run)


def test_world_readable_only_refuses_pseudo_files() -> None:
    with pytest.raises(Unreachable, match="it is on proc"):
        resolver(world_readable_only=True).open("file:///proc/self/status", 0, b"")
    assert read(resolver(), "file:///proc/self/status")


def test_pseudo_files_have_no_size_to_record() -> None:
    with pytest.raises(Unreachable, match="it is being changed"):
        resolver().list_objects("file:///proc/version")


MOUNTINFO = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /mnt/art rw,nosuid,nodev shared:9 - fuse.artfs /srv/vol rw,user_id=0,group_id=0,allow_other
31 21 0:41 / /mnt/own rw - fuse.sshfs host:/ rw,user_id=1000,group_id=1000,allow_other
32 21 0:42 / /mnt/all rw - fuse.juicefs J rw,user_id=0,group_id=0,allow_other
33 21 0:43 / /sys ro - sysfs sysfs rw
"""


@pytest.mark.parametrize(
    ("mount", "common", "world_readable_only"),
    [
        (21, None, None),
        (30, "mount of artfs", "mount of artfs"),
        (31, None, "FUSE mount that another user than root made"),
        (32, None, None),
        (33, None, "on sysfs"),
        (99, "its mount is unknown", "its mount is unknown"),
    ],
)
def test_references_into_some_mounts_are_refused(
    mount, common, world_readable_only, monkeypatch, tmp_path
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    monkeypatch.setattr(mountinfo, "_TABLE", tmp_path / "mountinfo")
    monkeypatch.setattr(mountinfo, "mount_id", lambda _: mount)
    for cautious, expected in ((False, common), (True, world_readable_only)):
        said = AllowedMounts(world_readable_only=cautious).refusal(3)
        assert said is None if expected is None else said is not None and expected in said


# ---- concurrency ------------------------------------------------------------------------------------------


def test_files_opened_at_once_are_hashed_once(place: Path, monkeypatch) -> None:
    path, remote = make(place / "a"), resolver()
    measure, hashing, calls = regular_files.hash_and_size, threading.Event(), []

    def slow(algorithm: Algorithm, fd: int, **named: Any) -> tuple[bytes, int]:
        calls.append(fd)
        assert hashing.wait(10)
        return measure(algorithm, fd, **named)

    monkeypatch.setattr(regular_files, "hash_and_size", slow)
    together(remote._files._hashing, 8, lambda: read(remote, uri_of(path), 4, tag(b"data")), hashing.set)
    assert len(calls) == 1


# ---- without obstore --------------------------------------------------------------------------------------


def test_without_libraries_errors_say_what_to_install(place: Path, monkeypatch) -> None:
    for library in ("boto3", "obstore"):
        for module in [name for name in sys.modules if name.split(".")[0] == library]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, library, None)  # import raises ImportError
    remote = resolver()
    for uri in (
        "http://h/x",
        "https://h/x",
        "s3://bucket/k",
        "s3://bucket/k/",
        "gs://bucket/k",
        "az://bucket/k",
    ):
        for action in (
            remote.list_objects,
            lambda uri: remote.open(uri, 1, b"etag:x"),
            lambda uri: remote.open(uri, 0, b""),
        ):
            with pytest.raises(RemoteMissing, match=r"pip install 'artfs\[remote\]'"):
                action(uri)
        with pytest.raises(RemoteMissing):
            remote.verify(uri, 1, b"etag:x")
    path = make(place / "a")
    assert read(remote, uri_of(path), 4, tag(b"data")) == b"data"


def test_obstore_is_imported_late() -> None:
    import subprocess

    code = "import sys, artfs.references; assert 'obstore' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_all_failures_have_one_base_class() -> None:
    from artfs.errors import ReferenceFailed

    assert issubclass(ReferenceFailed, ArtfsError)
    assert {Unreachable, Changed, RemoteMissing} <= set(ReferenceFailed.__subclasses__())


# ---- files that are read in place


def test_changes_during_a_read_are_detected(place: Path) -> None:
    path = make(place / "a", b"good")
    with opened(resolver(), uri_of(path), 4, tag(b"good")) as file:
        assert file.settled()
        path.chmod(0o640)
        assert file.moved()
        assert not file.settled()  # what was read meanwhile is unknown
        assert file.settled()
        assert not file.moved()
        path.write_bytes(b"evil")
        with pytest.raises(Changed):
            file.settled()
        path.write_bytes(b"good")
        assert not file.settled()
        assert file.settled()


def test_a_copy_of_a_changed_file_is_checked(place: Path) -> None:
    path, good, evil = (
        make(place / name, data) for name, data in zip("abc", (b"good", b"good", b"evil"), strict=True)
    )
    with opened(resolver(), uri_of(path), 4, tag(b"good")) as file:
        with good.open("rb") as copy:
            file.check(copy.fileno())
        with evil.open("rb") as copy, pytest.raises(Changed):
            file.check(copy.fileno())


def test_unrecorded_bytes_may_change(place: Path) -> None:
    path = make(place / "a", b"good")
    with opened(resolver(), uri_of(path), 4, b"") as file:
        path.write_bytes(b"evil")
        assert file.settled()


# ---- requesters ------------------------------------------------------------------------------------------


def far(path: Path) -> Path:
    """A file that takes hours to hash."""
    with path.open("wb") as file:
        os.truncate(file.fileno(), 4 << 40)
    return path


class Hashing:
    """Lists files in threads, for requesters who leave at a signal."""

    def __init__(self, remote: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self._remote, self._measure = remote, regular_files.hash_and_size
        monkeypatch.setattr(regular_files, "hash_and_size", self._begin)

    def _begin(self, *arguments: Any, **named: Any) -> tuple[bytes, int]:
        self.begun += 1
        return self._measure(*arguments, **named)

    def look(self, path: Path, uid: int, gone: threading.Event) -> threading.Thread:
        def run() -> None:
            with pytest.raises(Interrupted):
                self._remote.list_objects(uri_of(path), requester=Requester(uid, gone.is_set))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def wait(self, count: int) -> None:
        eventually(lambda: self.begun == count, what=f"{count} files are read")


def test_a_waiting_requester_takes_over_abandoned_work(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hashing = far(place / "file"), Hashing(resolver(), monkeypatch)
    gone = [threading.Event() for _ in range(3)]
    first = hashing.look(path, 1001, gone[0])
    hashing.wait(1)
    others = [hashing.look(path, 1002, event) for event in gone[1:]]
    gone[2].set()
    others[1].join(30)
    assert hashing.begun == 1
    gone[0].set()
    first.join(30)
    hashing.wait(2)
    assert others[0].is_alive()
    gone[1].set()
    others[0].join(30)


def test_a_users_files_are_hashed_a_few_at_a_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashing, gone = Hashing(resolver(), monkeypatch), threading.Event()
    threads = [hashing.look(far(place / f"hers-{number}"), 1001, gone) for number in range(8)]
    hashing.wait(2)
    threads.append(hashing.look(far(place / "his"), 1002, gone))
    hashing.wait(3)
    gone.set()
    for thread in threads:
        thread.join(30)
    assert hashing.begun == 3
