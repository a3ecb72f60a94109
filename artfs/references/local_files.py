"""Files of this machine as references: opened safely, hashed, and remembered while they are unchanged.

Owns: the resolution of paths, who must be able to read a file, and which files were verified. Must not know
caches and other schemes. Blocking; any thread.

A path is resolved component by component from the root directory. Each is opened with O_PATH and O_NOFOLLOW
and then checked by its descriptor, so that no process can replace it between the two. A symlink among the
directories is resolved from its text in the same way, so that every real directory is checked; the object
itself must not be a symlink. Only regular files are opened for reading, since opening a device can have an
effect. With ``world_readable_only``, everyone (group and others) must be able to pass each directory and to
read the file; access lists, which may deny it to one user, are not read.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from cachetools import LRUCache

from artfs.errors import Changed, Interrupted, Unreachable
from artfs.limits.limit import LimitExceededError, Turns
from artfs.limits.numbers import HASHING_THREADS
from artfs.model.digest import Algorithm
from artfs.references import uris
from artfs.references.allowed_mounts import AllowedMounts
from artfs.references.single_flight import THIS_PROCESS, Abandoned, Requester, SingleFlight
from artfs.references.uris import ChargeMemory, FilePath, FoundObject
from artfs.store import durable, regular_files

MOST_SYMLINKS = 40  # the kernel's own bound, path_resolution(7)
REMEMBERED = 16384
# Times of files advance in ticks: a second change within one tick leaves ctime as it is.
RACY_NS = 2_000_000_000

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = 100  # bytes of memory that a name takes in addition to its length
_KINDS = {stat.S_IFLNK: "a symlink", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a fifo"}
_ALL_PASS, _ALL_READ = 0o011, 0o044


class _State(NamedTuple):
    """Equal as long as a file's bytes are those that were hashed: no user can set ctime."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class _Content(NamedTuple):
    """The digest and size of what was read, and when the reading began."""

    digest: bytes
    size: int
    read_at_ns: int


def _state(fd: int) -> _State:
    info = os.fstat(fd)
    return _State(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


class LocalFiles:
    """Lists and opens ``file://``. Every failure is Unreachable or Changed, never an OSError.

    Once the requester has gone, a call soon ends with Interrupted.
    """

    def __init__(self, algorithm: Algorithm, *, world_readable_only: bool) -> None:
        self._algorithm = algorithm
        self._world_readable_only = world_readable_only
        self._lock = threading.Lock()
        self._verified: LRUCache[tuple[_State, str], _Content] = LRUCache(REMEMBERED)
        self._hashing: SingleFlight[tuple[_State, str], _Content] = SingleFlight()
        self._turns = Turns(HASHING_THREADS)

    def list_objects(
        self,
        uri: str,
        *,
        checksum: bool,
        max_objects: int,
        charge: ChargeMemory,
        requester: Requester = THIS_PROCESS,
    ) -> list[FoundObject]:
        """Returns the file, or all regular files below the directory, sorted by name.

        Raises InvalidCommand for more than ``max_objects``, before it hashes the first.
        """
        path = uris.file_path(uri)
        with self._translating_errors(uri), durable.closing(self._walk(path)) as top:
            mounts = AllowedMounts(world_readable_only=self._world_readable_only)
            if not stat.S_ISDIR(os.fstat(top).st_mode):
                if max_objects < 1:
                    raise uris.too_many(uri, max_objects)
                return [self._found(top, path.parts, path.parts[-1], checksum, requester)]
            found: list[FoundObject] = []
            for below, names in self._below(top, mounts, path, max_objects, charge, requester):
                with self._descent(top, below, mounts) as directory:
                    for name in names:
                        parts = (*path.parts, *below, name)
                        with (
                            self._translating_errors(uris.file_uri(parts)),
                            durable.closing(os.open(name, _PATH, dir_fd=directory)) as fd,
                        ):
                            _refuse(mounts.refusal(fd))
                            relative = b"/".join((*below, name))
                            found.append(self._found(fd, parts, relative, checksum, requester))
                            charge(found[-1].memory)
            return sorted(found)

    def open(self, uri: str, size: int, checksum: bytes, requester: Requester = THIS_PROCESS) -> LocalFile:
        """Opens a file for reading and verifies it, but does not read an unchanged one again.

        With an empty checksum only the size is verified, and only if it is not 0.
        """
        verify = partial(self._verify, uri, size, checksum, requester)
        return LocalFile(*self._open(uri, partial(verify, remembered=True)), verify)

    def verify(self, uri: str, size: int, checksum: bytes) -> None:
        """Reads and hashes a file, even if it was verified before."""
        os.close(
            self._open(uri, partial(self._verify, uri, size, checksum, THIS_PROCESS, remembered=False))[0]
        )

    def forget(self) -> None:
        with self._lock:
            self._verified.clear()

    def _open(self, uri: str, verify: Callable[[int], _State | None]) -> tuple[int, _State | None]:
        with self._translating_errors(uri):
            with durable.closing(self._walk(uris.file_path(uri))) as handle:
                fd = self._readable(handle)
            try:
                return fd, verify(fd)
            except BaseException:
                os.close(fd)
                raise

    # ---- paths ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _translating_errors(self, uri: str) -> Iterator[None]:
        try:
            yield
        except Abandoned:
            raise Interrupted from None
        except LimitExceededError:
            raise
        except _Refused as refused:
            raise Unreachable(uri, str(refused)) from None
        except FileNotFoundError:
            raise Unreachable(uri, "there is no such file") from None
        except NotADirectoryError:
            raise Unreachable(uri, "a component of its path is not a directory") from None
        except OSError as error:
            raise Unreachable(uri, (error.strerror or str(error)).lower()) from None

    def _walk(self, path: FilePath) -> int:
        """Opens what a path names with O_PATH: a directory, or what may be a regular file."""
        mounts, links = AllowedMounts(world_readable_only=self._world_readable_only), 0
        todo = list(reversed(path.parts))
        at = os.open(b"/", _PATH | os.O_DIRECTORY)
        try:
            self._pass(at)
            while todo:
                name = todo.pop()
                fd = os.open(name, _PATH, dir_fd=at)
                try:
                    _refuse(mounts.refusal(fd))
                    mode = os.fstat(fd).st_mode
                    if stat.S_ISLNK(mode) and (todo or path.directory):
                        links += 1
                        _refuse("there are too many symlinks in its path" if links > MOST_SYMLINKS else None)
                        text = os.readlink(b"", dir_fd=fd)
                        todo.extend(part for part in reversed(text.split(b"/")) if part not in (b"", b"."))
                        if not text.startswith(b"/"):
                            continue
                        root = os.open(b"/", _PATH | os.O_DIRECTORY)
                        os.close(fd)
                        fd = root
                    elif stat.S_ISDIR(mode):
                        self._pass(fd)
                    elif todo or path.directory:
                        raise NotADirectoryError
                    at, fd = fd, at
                finally:
                    os.close(fd)
        except BaseException:
            os.close(at)
            raise
        return at

    def _pass(self, directory: int) -> None:
        if self._world_readable_only and os.fstat(directory).st_mode & _ALL_PASS != _ALL_PASS:
            raise _Refused("not every user may read it: a directory of its path is closed to some")

    @contextlib.contextmanager
    def _descent(self, top: int, below: tuple[bytes, ...], mounts: AllowedMounts) -> Iterator[int]:
        """Opens a directory below ``top``, from there each time, so that few descriptors are held."""
        at = os.open(b".", _PATH | os.O_DIRECTORY, dir_fd=top)
        try:
            for name in below:
                fd = os.open(name, _PATH | os.O_DIRECTORY, dir_fd=at)
                os.close(at)
                at = fd
                _refuse(mounts.refusal(at))
                self._pass(at)
            yield at
        finally:
            os.close(at)

    def _readable(self, handle: int) -> int:
        """Opens an O_PATH descriptor for reading, if it is a regular file that may be read."""
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            what = _KINDS.get(stat.S_IFMT(mode), "not a regular file")
            raise _Refused(f"it is {what}" + ("; use the path of its target" if stat.S_ISLNK(mode) else ""))
        if self._world_readable_only and mode & _ALL_READ != _ALL_READ:
            raise _Refused("not every user may read it")
        # O_NONBLOCK: do not wait for a lease that another process holds on the file.
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def _below(
        self,
        top: int,
        mounts: AllowedMounts,
        path: FilePath,
        most: int,
        charge: ChargeMemory,
        requester: Requester,
    ) -> list[tuple[tuple[bytes, ...], list[bytes]]]:
        """Lists the regular files of every directory: (path below ``top``, names)."""
        listed: list[tuple[tuple[bytes, ...], list[bytes]]] = []
        todo: list[tuple[bytes, ...]] = [()]
        count = 0
        while todo:
            below = todo.pop()
            names: list[bytes] = []
            with (
                self._translating_errors(uris.file_uri((*path.parts, *below))),
                self._descent(top, below, mounts) as directory,
            ):
                if self._world_readable_only and os.fstat(directory).st_mode & _ALL_READ != _ALL_READ:
                    raise _Refused("not every user may list it")
                with durable.directory(directory, b".") as fd, os.scandir(fd) as entries:
                    for entry in entries:
                        requester.check()
                        if entry.is_dir(follow_symlinks=False):
                            todo.append((*below, os.fsencode(entry.name)))
                            charge(_NAME + len(entry.name) + 8 * len(below))
                        elif entry.is_file(follow_symlinks=False):
                            names.append(os.fsencode(entry.name))
                            charge(_NAME + len(entry.name))
                            count += 1
                            if count > most:
                                raise uris.too_many(uris.file_uri(path.parts), most)
            listed.append((below, names))
        return listed

    # ---- the bytes ----------------------------------------------------------------------------------------

    def _found(
        self, handle: int, parts: tuple[bytes, ...], name: bytes, checksum: bool, requester: Requester
    ) -> FoundObject:
        requester.check()
        uri = uris.file_uri(parts)
        with durable.closing(self._readable(handle)) as fd:
            if not checksum:
                return FoundObject(name, uri, os.fstat(fd).st_size, b"")
            for _ in range(3):
                state = _state(fd)
                content = self._content(fd, state, self._algorithm, requester, remembered=True)
                if state == _state(fd) and content.size == state.size:
                    return FoundObject(name, uri, state.size, _tag(self._algorithm, content.digest))
            raise _Refused("it is being changed; try again")

    def _verify(
        self, uri: str, size: int, checksum: bytes, requester: Requester, fd: int, *, remembered: bool
    ) -> _State | None:
        """Returns the state in which the bytes were the recorded ones; None without a recorded checksum."""
        state = _state(fd)
        if state.size != size and (checksum or size):
            raise Changed(uri, f"{size} bytes", f"{state.size} bytes")
        if not checksum:
            return None
        label, _, digits = checksum.partition(b":")
        try:
            algorithm = Algorithm.named(label.decode())
        except ValueError:
            raise Unreachable(uri, "its recorded checksum is not that of a file") from None
        with self._translating_errors(uri):
            content = self._content(fd, state, algorithm, requester, remembered=remembered)
        found = _tag(algorithm, content.digest)
        if content.size != size:
            raise Changed(uri, f"{size} bytes", f"{content.size} bytes")
        if found != label + b":" + digits.lower():
            raise Changed(uri, checksum.decode("ascii", "replace"), found.decode())
        return state

    def _content(
        self, fd: int, state: _State, algorithm: Algorithm, requester: Requester, *, remembered: bool
    ) -> _Content:
        """Returns the digest of an open file, remembered or read; ``state`` is its present state.

        It is remembered only if the file was last changed long before its reading began, and is unchanged.
        """
        if not remembered:
            return self._read(fd, algorithm, requester)
        key = (state, algorithm.label)
        with self._lock:
            if (known := self._verified.get(key)) is not None:
                return known
        with self._hashing.share(
            key, lambda: self._read(fd, algorithm, requester), requester.check
        ) as content:
            pass
        if state == _state(fd) and state.ctime_ns <= content.read_at_ns - RACY_NS:
            with self._lock:
                self._verified[key] = content
        return content

    def _read(self, fd: int, algorithm: Algorithm, requester: Requester) -> _Content:
        own = requester is THIS_PROCESS
        with contextlib.nullcontext() if own else self._turns.turn(requester.uid, requester.check):
            now = time.time_ns()
            return _Content(*regular_files.hash_and_size(algorithm, fd, check=requester.check), now)


class LocalFile:
    """An open file of this machine, which is read in place, and which others may change meanwhile."""

    def __init__(self, fd: int, state: _State | None, verify: Callable[..., _State | None]) -> None:
        self.fd, self._state, self._verify = fd, state, verify

    def moved(self) -> bool:
        """Tells whether the file may have changed since it was verified."""
        return self._state is not None and _state(self.fd) != self._state

    def check(self, copy: int) -> None:
        """Compares a copy with what was recorded. Raises Changed, and Unreachable if it can't be read."""
        self._verify(copy, remembered=False)

    def settled(self) -> bool:
        """Tells whether all reads until now returned recorded bytes; if not, the caller reads and asks again.

        Verifies a file whose times have changed. Raises Changed, and Unreachable if it can't be read.
        """
        if not self.moved():
            return True
        self._state = self._verify(self.fd, remembered=True)
        return False


class _Refused(Exception):
    """Why a file is not read; the handler knows the URI."""


def _refuse(why: str | None) -> None:
    if why is not None:
        raise _Refused(why)


def _tag(algorithm: Algorithm, digest: bytes) -> bytes:
    return f"{algorithm.label}:{digest.hex()}".encode()
