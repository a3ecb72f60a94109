"""Shared and private mappings behave as in a real directory, also for files of a base."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

import pytest

from tests.conformance.arenas import Arenas
from tests.conformance.comparing import USERS, Record, turns
from tests.conformance.driver import OsFilesystem
from tests.conformance.helpers import read, write
from tests.conformance.processes import Child, in_child

pytestmark = pytest.mark.fuse

PAGE = mmap.PAGESIZE
READ, WRITE = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
DATA = bytes(range(256)) * (3 * PAGE // 256) + b"the last, part of a page"


def _mapped(fs: OsFilesystem, prot: int, flags: int = mmap.MAP_SHARED, size: int = len(DATA)) -> mmap.mmap:
    with fs.open(b"it", os.O_RDWR if prot == WRITE and flags == mmap.MAP_SHARED else os.O_RDONLY) as file:
        if size > len(DATA):
            file.truncate(size)  # Python refuses to map an empty file
        mapping = mmap.mmap(file.fileno(), size, flags, prot)
        if size > len(DATA):
            file.truncate(len(DATA))
        return mapping


def _touched(mapping: mmap.mmap, at: int, store: bytes | None = None) -> object:
    """Returns what another process reads at an offset, or the signal that it gets."""

    def look(_child: Child) -> str:
        if store is not None:
            mapping[at : at + len(store)] = store
        return mapping[at : at + 4].hex()

    with Child(look) as child:
        return child.outcome()


def _behind_the_end(fs: OsFilesystem) -> list[object]:
    with _mapped(fs, WRITE, size=5 * PAGE) as mapping:
        seen = [_touched(mapping, at) for at in (len(DATA), 4 * PAGE - 4, 4 * PAGE, 5 * PAGE - 4)]
        return [*seen, _touched(mapping, 4 * PAGE, b"lost"), fs.stat(b"it").size]


def _truncated_below(fs: OsFilesystem) -> list[object]:
    with _mapped(fs, WRITE) as mapping:
        mapping[2 * PAGE : 2 * PAGE + 4] = b"gone"
        fs.truncate(b"it", PAGE + 100)
        seen = [_touched(mapping, at) for at in (PAGE + 96, PAGE + 100, 2 * PAGE, 3 * PAGE)]
        fs.truncate(b"it", len(DATA))
        return [*seen, *(_touched(mapping, at) for at in (PAGE + 96, PAGE + 100, 2 * PAGE, 3 * PAGE))]


def _behind_the_end_and_then_grown(fs: OsFilesystem) -> list[object]:
    """Bytes stored in the last page beyond the end are not part of the file."""
    with _mapped(fs, WRITE, size=4 * PAGE) as mapping:
        mapping[len(DATA) : len(DATA) + 4] = b"ghst"
        mapping.flush()
        size = fs.stat(b"it").size
        fs.truncate(b"it", len(DATA) + 100)
        with fs.open(b"it", os.O_WRONLY) as file:
            file.pwrite(b"!", len(DATA) + 200)
        return [size, mapping[len(DATA) : len(DATA) + 4], read(fs, b"it")[len(DATA) :]]


def _private(fs: OsFilesystem) -> list[object]:
    with _mapped(fs, WRITE, mmap.MAP_PRIVATE) as mapping, fs.open(b"it", os.O_WRONLY) as file:
        mapping[:4] = b"mine"
        file.pwrite(b"file", 0)
        seen = [mapping[:4], read(fs, b"it")[:4]]
        mapping.flush()
        return [*seen, in_child(mapping[:4].decode), read(fs, b"it")[:4], fs.stat(b"it").size]


def _readers_see_writes(fs: OsFilesystem) -> list[object]:
    """In a patch the first write gives the file a new inode below an existing mapping."""
    with _mapped(fs, READ) as mapping, fs.open(b"it", os.O_RDONLY) as reader:
        seen: list[object] = [mapping[:4], mapping[PAGE : PAGE + 4]]
        with fs.open(b"it", os.O_RDWR) as writer:
            writer.pwrite(b"1111", 0)
            seen += [mapping[:4], reader.pread(4, 0)]
            with mmap.mmap(writer.fileno(), len(DATA), mmap.MAP_SHARED, WRITE) as other:
                other[PAGE : PAGE + 4] = b"2222"
                seen += [mapping[PAGE : PAGE + 4], reader.pread(4, PAGE), writer.pread(4, PAGE)]
        return [*seen, mapping[2 * PAGE : 2 * PAGE + 4], mapping[:4], read(fs, b"it")[:4]]


def _a_name_less(fs: OsFilesystem) -> list[object]:
    with _mapped(fs, WRITE) as mapping:
        fs.unlink(b"it")
        write(fs, b"it", b"another of that name")
        mapping[:4] = b"late"
        mapping.flush()
        return [mapping[:4], mapping[3 * PAGE :], read(fs, b"it")]


def _of_many(fs: OsFilesystem) -> list[object]:
    def store(number: int) -> None:
        with _mapped(fs, WRITE) as mapping:
            for page in range(3):
                at = page * PAGE + number * 8
                mapping[at : at + 8] = b"child %2d" % number

    children = [Child(lambda _child, number=number: store(number)) for number in range(6)]  # type: ignore[misc]
    for child in children:
        with child:
            child.value()
    found = read(fs, b"it")
    return [found[page * PAGE : page * PAGE + 48] for page in range(3)]


def _written_from_itself(fs: OsFilesystem) -> list[object]:
    with _mapped(fs, WRITE) as mapping, fs.open(b"it", os.O_RDWR) as file:
        os.pwritev(file.fileno(), [memoryview(mapping)[:PAGE]], 2 * PAGE)
        os.preadv(file.fileno(), [memoryview(mapping)[PAGE : 2 * PAGE]], 0)
        return [mapping[:4] == mapping[PAGE : PAGE + 4] == mapping[2 * PAGE : 2 * PAGE + 4]]


def _stored(fs: OsFilesystem) -> list[object]:
    """The picture of the slot shows that mtime and ctime move."""
    with _mapped(fs, WRITE) as mapping:
        mapping[:4] = b"time"
        mapping.flush()
    return []


def _looked_at(fs: OsFilesystem) -> list[object]:
    with _mapped(fs, WRITE) as mapping:
        return [mapping[:4]]


def _replaced(fs: OsFilesystem) -> list[object]:
    with _mapped(fs, READ) as mapping:
        write(fs, b"other", b"other")
        fs.rename(b"other", b"it")
        return [mapping[:4], mapping[-4:], read(fs, b"it")]


SCRIPTS: dict[str, Callable[[OsFilesystem], list[object]]] = {
    "behind the end": _behind_the_end,
    "truncated below": _truncated_below,
    "behind the end, and then grown": _behind_the_end_and_then_grown,
    "private": _private,
    "readers see writes": _readers_see_writes,
    "a name less": _a_name_less,
    "of many": _of_many,
    "written from itself": _written_from_itself,
    "stored": _stored,
    "looked at": _looked_at,
    "replaced": _replaced,
}


def _build(fs: OsFilesystem, first: bool) -> None:
    if first:
        write(fs, b"it", DATA)


_SLOTS = dict.fromkeys(SCRIPTS, _build)


@pytest.mark.parametrize(("make", "user", "script"), turns([*SCRIPTS] * 3, ["root"]))
def test_mappings_behave_as_in_a_real_directory(arenas: Arenas, make: str, user: str, script: str) -> None:
    slot = arenas.slot("mappings", _SLOTS, make, script, user)

    def run(fs: OsFilesystem) -> Record:
        return {str(step): repr(seen) for step, seen in enumerate(SCRIPTS[script](fs))}

    with arenas.mounted.watched():
        slot.compare(USERS[user], run)
