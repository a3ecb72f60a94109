"""One file, written and read in every way there is, against a copy of it in memory (after Apple's fsx).

    python -m tests.torture.fsx --ops 1000000            # a plain and a patched file, on mounts of its own
    python -m tests.torture.fsx --ops 1000000 DIRECTORY  # the file fsx in any directory

The same seed does the same again. Owns the operations and their model; how a file is reached through a
mount, finished, and patched is in :func:`on_a_mount`.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tests.mount.control import command, finish
from tests.mount.mounting import MountedVolume, mounted_volume
from tests.mount.patching import remount

LONGEST = 256 * 1024
_PAGE = mmap.PAGESIZE
_SHOWN = 60  # operations before a failure that are printed
_PARTS = 4  # of a run on a mount, with a remount or a finish between two
_ROUND = 20_000  # operations between two checks of the time


class Mismatch(AssertionError):
    """The file is not what was written to it."""


class Fsx:
    """A file and its model. The content at the path counts as written."""

    def __init__(self, path: Path, seed: int, longest: int = LONGEST) -> None:
        self.path = path
        self.longest = longest
        self.done = 0
        self._random = random.Random(seed)
        self._noise = self._random.randbytes(4 * longest)
        self._log: deque[str] = deque(maxlen=_SHOWN)
        self._model = bytearray(path.read_bytes()) if path.exists() else bytearray()
        self._fds: list[tuple[int, int]] = []  # descriptors and their flags; the first is for both
        self._mapping: tuple[mmap.mmap, int] | None = None  # shared and writable, with its offset
        self._weighed = [call for call, weight in self._operations().items() for _ in range(weight)]

    def _operations(self) -> dict[Callable[[], None], int]:
        return {
            self._read: 20,
            self._write: 20,
            self._append: 4,
            self._truncate: 6,
            self._truncate_by_name: 2,
            self._punch: 4,
            self._map_and_read: 10,
            self._map_and_write: 10,
            self._map_privately: 2,
            self._map_for_long: 3,
            self._store: 12,
            self._load: 8,
            self._unmap: 2,
            self._read_directly: 3,
            self._write_directly: 3,
            self._open_another: 3,
            self._close_another: 3,
            self._close_all: 1,
            self._copy: 1,
            self._sync: 3,
            self._drop_pages: 2,
        }

    # -- a run

    def run(self, operations: int) -> None:
        """Makes so many random operations, then compares the whole file. Raises Mismatch."""
        self._reopen()
        try:
            for _ in range(operations):
                self.done += 1
                self._random.choice(self._weighed)()
                size = os.fstat(self._fd).st_size
                if size != len(self._model):
                    self._fail(f"it has {size} bytes, not {len(self._model)}")
                if self.done % 500 == 0:
                    self.check()
            self.check()
        finally:
            self.close()
        self.check_named(self.path)

    def check(self) -> None:
        """Compares the whole file as read by an open descriptor."""
        self._compare(0, self._pread(self._fd, len(self._model) + 1, 0), "the whole of it")

    def check_named(self, path: Path) -> None:
        """Compares the whole file as read by a new open."""
        self._compare(0, path.read_bytes(), f"the whole of {path.name}")

    def close(self) -> None:
        """Closes the file; a later run continues with it."""
        self._unmap()
        while self._fds:
            os.close(self._fds.pop()[0])

    @property
    def _fd(self) -> int:
        return self._fds[0][0]

    def _reopen(self) -> None:
        self.close()
        flags = os.O_RDWR | os.O_CREAT
        self._fds.append((os.open(self.path, flags | os.O_CLOEXEC, 0o644), flags))

    # -- drawing

    def _note(self, what: str) -> None:
        self._log.append(f"{self.done}: {what}")

    def _length(self, most: int | None = None) -> int:
        draw = self._random
        most = self.longest if most is None else most
        length = draw.choice(
            (draw.randint(1, 100), draw.randint(1, 5000), draw.randint(1, self.longest // 4))
        )
        return max(1, min(length, most))

    def _range(self) -> tuple[int, int]:
        """Draws an offset, perhaps beyond the end, and a length."""
        offset = self._offset(min(len(self._model) + 10_000, self.longest - 1))
        return offset, self._length(self.longest - offset)

    def _range_within(self) -> tuple[int, int] | None:
        if not self._model:
            return None
        offset = self._offset(len(self._model) - 1)
        return offset, self._length(len(self._model) - offset)

    def _offset(self, most: int) -> int:
        offset = self._random.randint(0, most)
        return offset - offset % _PAGE if self._random.random() < 0.2 else offset

    def _data(self, length: int) -> bytes:
        start = self._random.randrange(len(self._noise) - length)
        return self._noise[start : start + length]

    def _any_fd(self, refused: int) -> int:
        """Draws a descriptor that allows the access and does not append."""
        return self._random.choice(
            [
                fd
                for fd, flags in self._fds
                if flags & os.O_ACCMODE != refused and not (flags & os.O_APPEND and refused == os.O_RDONLY)
            ]
        )

    # -- the model

    def _put(self, offset: int, data: bytes) -> None:
        if len(self._model) < offset:
            self._model.extend(bytes(offset - len(self._model)))
        self._model[offset : offset + len(data)] = data

    def _cut(self, size: int) -> None:
        del self._model[size:]
        self._model.extend(bytes(size - len(self._model)))

    def _compare(self, offset: int, got: bytes, what: str) -> None:
        expected = self._model[offset : offset + len(got)]
        if got != expected or (what.startswith("the whole") and len(got) != len(self._model)):
            at = next((i for i, pair in enumerate(zip(got, expected, strict=False)) if len({*pair}) > 1), -1)
            first = f"first differs at {offset + at}" if at >= 0 else "is as far as it goes"
            self._fail(f"{what} has {len(got)} bytes for {len(expected)}, which {first}")

    def _fail(self, why: str) -> None:
        raise Mismatch("\n".join([f"{self.path}, operation {self.done}: {why}; before that:", *self._log]))

    # -- reads and writes

    def _pread(self, fd: int, length: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while length and (part := os.pread(fd, length, offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def _read(self) -> None:
        offset, length = self._range()
        fd = self._any_fd(os.O_WRONLY)
        self._note(f"read {length} at {offset} by {fd}")
        got = self._pread(fd, length, offset)
        if len(got) != max(0, min(length, len(self._model) - offset)):
            self._fail(f"read gave {len(got)} bytes")
        self._compare(offset, got, "what was read")

    def _write(self) -> None:
        offset, length = self._range()
        fd, data = self._any_fd(os.O_RDONLY), self._data(length)
        self._note(f"write {length} at {offset} by {fd}")
        if os.pwrite(fd, data, offset) != length:
            self._fail("a short write")
        self._put(offset, data)

    def _append(self) -> None:
        room = self.longest - len(self._model)
        if room <= 0:
            return
        data = self._data(self._length(room))
        self._note(f"append {len(data)} at {len(self._model)}")
        known = [fd for fd, flags in self._fds if flags & os.O_APPEND]
        with contextlib.ExitStack() as stack:
            if not known:
                known.append(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
                stack.callback(os.close, known[0])
            if os.write(known[0], data) != len(data):
                self._fail("a short write")
        self._put(len(self._model), data)

    def _read_directly(self) -> None:
        self._directly(os.O_RDONLY)

    def _write_directly(self) -> None:
        self._directly(os.O_WRONLY)

    def _directly(self, access: int) -> None:
        """Uses pages aligned to the kernel's, as other filesystems require."""
        offset = self._offset(min(len(self._model), self.longest - _PAGE)) // _PAGE * _PAGE
        length = -(-self._length(self.longest - offset) // _PAGE) * _PAGE
        self._note(f"{'read' if access == os.O_RDONLY else 'write'} {length} at {offset} directly")
        fd = os.open(self.path, access | os.O_DIRECT | os.O_CLOEXEC)
        try:
            with mmap.mmap(-1, length) as memory:
                if access == os.O_RDONLY:
                    count = os.preadv(fd, [memory], offset)
                    if count != max(0, min(length, len(self._model) - offset)):
                        self._fail(f"read gave {count} bytes")
                    self._compare(offset, memory[:count], "what was read directly")
                else:
                    memory[:] = data = self._data(length)
                    if os.pwritev(fd, [memory], offset) != length:
                        self._fail("a short write")
                    self._put(offset, data)
        finally:
            os.close(fd)

    # -- sizes

    def _truncate_to(self, size: int, truncate: Callable[[int], None]) -> None:
        if self._mapping is not None and size < self._mapping[1] + len(self._mapping[0]):
            self._unmap()  # accessing truncated pages raises SIGBUS
        truncate(size)
        self._cut(size)

    def _truncate(self) -> None:
        size, fd = self._random.randint(0, self.longest), self._any_fd(os.O_RDONLY)
        self._note(f"truncate to {size} by {fd}")
        self._truncate_to(size, lambda size: os.ftruncate(fd, size))

    def _truncate_by_name(self) -> None:
        if self._random.random() < 0.3:
            self._note("truncate at open")
            opening = lambda _: os.close(os.open(self.path, os.O_WRONLY | os.O_TRUNC))  # noqa: E731
            self._truncate_to(0, opening)
        else:
            size = self._random.randint(0, self.longest)
            self._note(f"truncate to {size} by name")
            self._truncate_to(size, lambda size: os.truncate(self.path, size))

    def _punch(self) -> None:
        """Truncates and extends the file: zeros replace bytes."""
        size, cut = len(self._model), self._random.randint(0, len(self._model))
        self._note(f"cut to {cut} and lengthen to {size}")
        for length in (cut, size):
            self._truncate_to(length, lambda length: os.ftruncate(self._fd, length))

    # -- mappings

    def _mapped(self, offset: int, length: int, access: int) -> tuple[mmap.mmap, int]:
        """Maps the pages of these bytes; returns also their position in the mapping."""
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        fd = self._fd
        if access == mmap.ACCESS_COPY:
            fd = self._any_fd(os.O_WRONLY)
        return mmap.mmap(fd, offset + length - start, access=access, offset=start), offset - start

    def _map_and_read(self) -> None:
        where = self._range_within()
        if where is not None:
            self._note("read {1} at {0} from a mapping".format(*where))
            memory, at = self._mapped(*where, mmap.ACCESS_READ)
            with memory:
                self._compare(where[0], memory[at : at + where[1]], "what was mapped")

    def _map_and_write(self) -> None:
        offset, length = self._range()
        data = self._data(length)
        sync = self._random.random() < 0.3
        self._note(f"write {length} at {offset} into a mapping{' and msync' if sync else ''}")
        if offset + length > len(self._model):
            os.ftruncate(self._fd, offset + length)
            self._cut(offset + length)
        memory, at = self._mapped(offset, length, mmap.ACCESS_WRITE)
        with memory:
            memory[at : at + length] = data
            if sync:
                memory.flush()
        self._put(offset, data)

    def _map_privately(self) -> None:
        where = self._range_within()
        if where is not None:
            offset, length = where
            self._note(f"write {length} at {offset} into a private mapping")
            memory, at = self._mapped(offset, length, mmap.ACCESS_COPY)
            with memory:
                self._compare(offset, memory[at : at + length], "what was mapped privately")
                memory[at : at + length] = self._data(length)

    def _map_for_long(self) -> None:
        self._unmap()
        where = self._range_within()
        if where is not None:
            memory, at = self._mapped(*where, mmap.ACCESS_WRITE)
            self._mapping = memory, where[0] - at
            self._note(f"map {len(memory)} at {self._mapping[1]}")

    def _store(self) -> None:
        if self._mapping is not None:
            memory, start = self._mapping
            at = self._random.randrange(len(memory))
            data = self._data(self._length(len(memory) - at))
            self._note(f"store {len(data)} at {start + at}")
            memory[at : at + len(data)] = data
            self._put(start + at, data)

    def _load(self) -> None:
        if self._mapping is not None:
            memory, start = self._mapping
            at = self._random.randrange(len(memory))
            length = self._length(len(memory) - at)
            self._note(f"load {length} at {start + at}")
            self._compare(start + at, memory[at : at + length], "what was loaded")

    def _unmap(self) -> None:
        if self._mapping is not None:
            self._note("unmap")
            self._mapping[0].close()
            self._mapping = None

    # -- descriptors, names, pages

    def _open_another(self) -> None:
        if len(self._fds) < 4:
            flags = self._random.choice(
                (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_APPEND)
            )
            self._fds.append((os.open(self.path, flags | os.O_CLOEXEC), flags))
            self._note(f"open {self._fds[-1][0]}, flags 0o{flags:o}")

    def _close_another(self) -> None:
        if len(self._fds) > 1:
            fd, _ = self._fds.pop(self._random.randrange(1, len(self._fds)))
            self._note(f"close {fd}")
            os.close(fd)

    def _close_all(self) -> None:
        self._note("close all and open again")
        self._reopen()

    def _copy(self) -> None:
        """Copies the file, in the kernel if possible, and perhaps replaces it by the copy."""
        fresh = self.path.with_name(self.path.name + ".copy")
        replaces, size = self._random.random() < 0.5, len(self._model)
        self._note(f"copy{' and rename' if replaces else ''}")
        copy = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            done = 0
            by = os.copy_file_range if self._random.random() < 0.5 else self._sent
            while done < size and (count := by(self._fd, copy, size - done, done)):
                done += count
            self._compare(0, self._pread(copy, size + 1, 0), "the whole of a copy")
        finally:
            os.close(copy)
        if replaces:
            os.rename(fresh, self.path)
            self.check()  # the file without a name
            self._reopen()
        else:
            os.unlink(fresh)

    @staticmethod
    def _sent(source: int, target: int, count: int, offset: int) -> int:
        return os.sendfile(target, source, offset, count)

    def _sync(self) -> None:
        how = self._random.choice((os.fsync, os.fdatasync))
        self._note(how.__name__)
        how(self._any_fd(os.O_RDONLY))

    def _drop_pages(self) -> None:
        """Makes the kernel evict the file's pages."""
        self._note("drop pages")
        self._unmap()  # mapped pages are not evicted
        os.fsync(self._fd)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


# -- on a mount


def on_a_mount(mounted: MountedVolume, operations: int, seed: int, *, patch: bool) -> None:
    """Runs fsx on a file of a pending version, or on a lower file of a patch.

    Continues across remounts and finishes; after each finish the version is compared, and the next part of
    the run works on a patch of it, or on a fresh file.
    """
    collection = mounted.point / f"fsx-{seed}-{'patch' if patch else 'plain'}"
    collection.mkdir()
    if patch:
        tree = collection / "pending" / "base"
        tree.mkdir()
        (tree / "fsx").write_bytes(random.Random(seed).randbytes(LONGEST // 2))
        finish(tree)
    for part in range(0, _PARTS, 2):
        tree = collection / "pending" / f"part-{part}"
        tree.mkdir()
        if patch:
            command(tree, "base", "latest")
        file = Fsx(tree / "fsx", seed + part)
        file.run(operations // _PARTS)
        remount(mounted)
        file.check_named(file.path)
        file.run(operations // _PARTS)
        version = collection / str(finish(tree)["version"])
        file.check_named(version / "fsx")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fsx", description=__doc__.splitlines()[0])
    parser.add_argument("--ops", type=int, help="operations on each file (default: 100,000)")
    parser.add_argument("--minutes", type=float, help="instead: again and again, for so long")
    parser.add_argument("--seed", type=int, default=None, help="what decides all; drawn and told without")
    parser.add_argument("--kind", choices=("plain", "patch"), help="on a mount: one of the two only")
    parser.add_argument("--write-cache", action="store_true", help="on a mount: with mount's option")
    parser.add_argument("directory", nargs="?", type=Path, help="any directory, instead of mounts")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    operations = options.ops or (_ROUND if options.minutes else 100_000)
    until = time.monotonic() + (options.minutes or 0) * 60
    while True:
        try:
            _round(options, operations, seed)
        except Mismatch as error:
            print(f"fsx: {error}", file=sys.stderr)
            return 1
        if time.monotonic() >= until:
            return 0
        seed += 1


def _round(options: argparse.Namespace, operations: int, seed: int) -> None:
    kinds = [options.kind] if options.kind else ["plain", "patch"]
    for kind in kinds if options.directory is None else [str(options.directory)]:
        start = time.monotonic()
        print(f"fsx: {kind}, {operations} operations, seed {seed}", flush=True)
        if options.directory is not None:
            Fsx(options.directory / "fsx", seed).run(operations)
        else:
            with mounted_volume(["--write-cache"] if options.write_cache else []) as mounted:
                on_a_mount(mounted, operations, seed, patch=kind == "patch")
        print(f"fsx: {kind}: all as written, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
