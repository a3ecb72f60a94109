"""Reading large directories while they change, some of whose entries come from a base.

Filesystems list in different orders, so the tests assert what POSIX and ext4 guarantee for any order.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.arenas import Arenas
from tests.conformance.dirstream import Stream
from tests.conformance.driver import OsFilesystem
from tests.conformance.helpers import write

pytestmark = pytest.mark.fuse

SIDES = ("reference", "plain", "based")  # the last with stubs
COUNT = 240
BASE = [b"base-%03d" % number for number in range(COUNT)]
GONE, MOVED, CHANGED = BASE[::6], BASE[1::6], BASE[2::6]
NEW = [b"new-%03d" % number for number in range(40)]
EXPECTED = {*BASE, *NEW, *(b"moved-" + name for name in MOVED)} - {*GONE, *MOVED}


def _build(fs: OsFilesystem, first: bool) -> None:
    if first:
        fs.mkdir(b"dir")
        for name in BASE:
            write(fs, b"dir/" + name)
        return
    for name in GONE:
        fs.unlink(b"dir/" + name)
    for name in MOVED:
        fs.rename(b"dir/" + name, b"dir/moved-" + name)
    for name in CHANGED:
        fs.chmod(b"dir/" + name, 0o600)
    for name in NEW:
        write(fs, b"dir/" + name)


_CASES = (
    "each once", "small buffers", "telldir", "seekdir of a directory that changes", "two streams",
    "emptied while listed", "changed while listed", "lifted while listed", "rewound", "a duplicate",
)  # fmt: skip
_SLOTS = dict.fromkeys(_CASES, _build)


@pytest.fixture(params=SIDES)
def at(request: pytest.FixtureRequest, arenas: Arenas) -> Callable[[str], OsFilesystem]:
    """Returns the directory of a case on one of the sides."""

    def give(case: str) -> OsFilesystem:
        make = "plain" if request.param == "reference" else request.param
        slot = arenas.slot("listings", _SLOTS, make, case, request.param)
        return OsFilesystem(slot.sides[request.param != "reference"].path(b"dir"))

    return give


At = Callable[[str], OsFilesystem]


def test_each_entry_is_listed_once_with_kind_and_inode(at: At) -> None:
    fs = at("each once")
    listed = fs.listdir(b"")
    assert len(listed) == len(set(listed))
    assert set(listed) == EXPECTED
    with os.scandir(fs.path()) as entries:
        for entry in entries:
            assert entry.inode() == fs.stat(entry.name).ino
            assert entry.is_file(follow_symlinks=False)


def _getdents(fd: int, size: int) -> Iterator[bytes]:
    """Yields the names, by getdents64(2) with a buffer of that size."""
    libc, buffer = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(size)
    number = {"x86_64": 217, "aarch64": 61}[os.uname().machine]
    while (read := libc.syscall(number, fd, buffer, size)) > 0:
        at = 0
        while at < read:
            length = struct.unpack_from("H", buffer, at + 16)[0]
            yield buffer.raw[at + 19 : at + length].split(b"\0")[0]
            at += length
    assert read == 0, os.strerror(ctypes.get_errno())


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="the number of getdents64(2)")
@pytest.mark.parametrize("size", [64, 1000])
def test_small_buffers_return_all_entries(arenas: Arenas, at: At, size: int) -> None:
    if size == 64:
        fs = at("small buffers")
    else:
        fs = at("a duplicate")
    with fs.open(b"", os.O_RDONLY | os.O_DIRECTORY) as directory:
        listed = [name for name in _getdents(directory.fileno(), size) if name not in (b".", b"..")]
        assert len(listed) == len(set(listed))
        assert set(listed) == EXPECTED
        assert list(_getdents(directory.fileno(), size)) == []
        os.lseek(directory.fileno(), 0, os.SEEK_SET)
        assert len(list(_getdents(os.dup(directory.fileno()), size))) == len(EXPECTED) + 2
        assert list(_getdents(directory.fileno(), size)) == []  # one place for both


def _positions(stream: Stream) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while True:
        place = stream.tell()
        name = stream.next()
        if name is None:
            return found
        found.append((place, name))


def test_seeking_to_every_position_works(at: At) -> None:
    stream = Stream(at("telldir").path())
    places = _positions(stream)
    assert {name for _, name in places} == EXPECTED | {b".", b".."}
    for index in (0, 1, 2, 3, len(places) - 1, *range(0, len(places), 47), *range(5, len(places), 53)):
        stream.seek(places[index][0])
        assert stream.next() == places[index][1], index
    stream.seek(places[10][0])
    assert stream.rest() == [name for _, name in places[10:]]
    stream.close()


def test_positions_remain_valid_during_changes(at: At) -> None:
    fs = at("seekdir of a directory that changes")
    stream = Stream(fs.path())
    places = _positions(stream)
    middle = len(places) // 2
    for _, name in places[3:middle:2]:
        if name not in (b".", b".."):
            fs.unlink(name)
    for number in range(50):
        write(fs, b"came-%d" % number)
    stream.seek(places[middle][0])
    rest = [name for name in stream.rest() if not name.startswith(b"came-")]
    assert rest == [name for _, name in places[middle:]]
    stream.close()


def test_two_streams_are_independent(at: At) -> None:
    fs = at("two streams")
    one, other = Stream(fs.path()), Stream(fs.path())
    first = [one.next() for _ in range(60)]
    assert set(other.rest()) == EXPECTED | {b".", b".."}
    assert {*first, *one.rest()} == EXPECTED | {b".", b".."}
    one.close()
    other.close()


def test_removing_listed_entries_empties_the_directory(at: At) -> None:
    fs = at("emptied while listed")
    with os.scandir(fs.path()) as entries:
        seen = []
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert set(seen) == EXPECTED
    assert fs.listdir(b"") == []
    fs.rmdir(b"../dir")


def test_unchanged_entries_are_listed_exactly_once(at: At) -> None:
    fs = at("changed while listed")
    seen: list[bytes] = []
    touched: set[bytes] = set()
    names = sorted(EXPECTED)
    with os.scandir(fs.path()) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count % 15 == 3:
                write(fs, b"came-%d" % count)
                gone, moved, replaced = (names[(count * step) % len(names)] for step in (1, 3, 7))
                if gone not in touched:
                    fs.unlink(gone)
                if moved not in touched | {gone}:
                    fs.rename(moved, b"went-%d" % count)
                if replaced not in touched | {gone, moved}:
                    fs.rename(b"came-%d" % count, replaced)
                touched |= {gone, moved, replaced}
    assert len(touched) > 25
    for name in EXPECTED - touched:
        assert seen.count(name) == 1, name
    assert all(seen.count(name) <= 1 for name in seen)


def test_entries_written_during_a_listing_are_listed_once(at: At) -> None:
    """In a patch each gets a new inode, in the directory that is being listed."""
    fs = at("lifted while listed")
    names = sorted(EXPECTED)
    seen = []
    with os.scandir(fs.path()) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            for name in (entry.name, names[-1 - count % len(names)]):
                if count % 9 == 0:
                    with fs.open(name, os.O_WRONLY) as file:
                        file.pwrite(b"written", 0)
                else:
                    fs.chmod(name, 0o640)
    assert len(seen) == len(set(seen))
    assert set(seen) == EXPECTED


def test_rewinding_shows_the_current_entries(at: At) -> None:
    fs = at("rewound")
    stream = Stream(fs.path())
    for _ in range(30):
        stream.next()
    kept, removed = sorted(EXPECTED)[::2], sorted(EXPECTED)[1::2]
    for name in removed:
        fs.unlink(name)
    write(fs, b"came")
    fs.mkdir(b"directory")
    stream.rewind()
    found = stream.rest()
    assert sorted(found) == sorted([b".", b"..", b"came", b"directory", *kept])
    stream.close()
    assert stat.S_ISDIR(fs.stat(b"directory").mode)
