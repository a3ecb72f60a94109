"""The smallest filesystem for a daemon to serve: a flat directory, passed through, with counts of requests.

Run as ``python -m tests.mount.tiny VOLUME MOUNTPOINT [OPTION...]``. VOLUME holds ``files`` and ``locks``. The
xattr ``user.tiny`` of the root has the counts of requests and the flags of the mount, as JSON. Options:
``allow-other``, ``plain`` (without artfs's handshake), ``fail`` and ``die`` (before there is a mount),
``grace=SECONDS``, ``unmounted`` (a dead mount is detached while it is being replaced). statfs on a mount
whose VOLUME holds a file ``wait`` never returns; ``wait-thread`` lets a thread do the waiting, ``raise``
makes it fail in a way that ends pyfuse3.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyfuse3
import trio
from pyfuse3 import FUSEError

from artfs.daemon import background
from artfs.daemon.serve import serve
from artfs.daemon.supervisor import Supervised
from artfs.errors import MountError
from artfs.fuse import handshake, session
from artfs.fuse.invalidation import Notifier
from artfs.linux import mountinfo
from artfs.store.locks import Lock
from artfs.store.owners import this_process

#: The connection of this process, once it is made.
connections: list[handshake.FuseConnection] = []


class Tiny(pyfuse3.Operations):  # type: ignore[misc,unused-ignore]
    def __init__(self, volume: Path) -> None:
        super().__init__()
        self.volume = volume
        self.counts: Counter[str] = Counter()
        self.largest_write = 0
        self.names: dict[int, bytes] = {pyfuse3.ROOT_INODE: b"."}
        self.directory = os.open(volume / "files", os.O_RDONLY | os.O_DIRECTORY)

    def attributes(self, name: bytes) -> pyfuse3.EntryAttributes:
        try:
            status = os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        ino = pyfuse3.ROOT_INODE if name == b"." else status.st_ino + 1
        self.names[ino] = name
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(ino)
        entry.attr_timeout = 0
        for field in ("mode", "nlink", "uid", "gid", "size", "atime_ns", "mtime_ns", "ctime_ns"):
            setattr(entry, f"st_{field}", getattr(status, f"st_{field}"))
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        self.counts["lookup"] += 1
        return self.attributes(name)

    async def getattr(self, ino: int, ctx: Any) -> pyfuse3.EntryAttributes:
        self.counts["getattr"] += 1
        return self.attributes(self.names[ino])

    async def setattr(
        self, ino: int, attr: Any, fields: Any, fh: int | None, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        name = self.names[ino]
        if fields.update_mode:
            os.chmod(name, attr.st_mode & 0o7777, dir_fd=self.directory)
        return self.attributes(name)

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        self.counts["create"] += 1
        fd = os.open(name, flags | os.O_CREAT | os.O_CLOEXEC, mode & 0o7777, dir_fd=self.directory)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(fd)), self.attributes(name)

    async def open(self, ino: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        fd = os.open(self.names[ino], flags & ~os.O_APPEND | os.O_CLOEXEC, dir_fd=self.directory)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(fd))

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self.counts["write"] += 1
        self.largest_write = max(self.largest_write, len(buf))
        mode = os.fstat(fh).st_mode
        if mode & 0o6000:  # HANDLE_KILLPRIV_V2 makes this the filesystem's duty.
            os.fchmod(fh, mode & 0o1777)
        return os.pwrite(fh, buf, off)

    async def release(self, fh: int) -> None:
        os.close(fh)

    async def opendir(self, ino: int, ctx: Any) -> int:
        return ino

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        self.counts["readdirplus"] += 1
        names = sorted(os.fsencode(name) for name in os.listdir(self.directory))
        for number, name in enumerate(names[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), self.attributes(name), number):
                return

    async def getxattr(self, ino: int, name: bytes, ctx: Any) -> bytes:
        if ino == pyfuse3.ROOT_INODE and name == b"user.tiny":
            flags = connections[0].flags
            facts = {"counts": self.counts, "largest_write": self.largest_write, "flags": flags}
            return json.dumps(facts).encode()
        self.counts["getxattr"] += 1
        raise FUSEError(errno.ENODATA)

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        if (self.volume / "wait").exists():
            await trio.sleep_forever()
        if (self.volume / "wait-thread").exists():
            await trio.to_thread.run_sync(time.sleep, 1000)
        if (self.volume / "raise").exists():
            raise ValueError("a mistake in a handler")
        return pyfuse3.StatvfsData()


def main(arguments: Sequence[str]) -> None:
    volume, mountpoint = Path(arguments[0]), Path(arguments[1])
    options = set(arguments[2:])
    logging.basicConfig(level=logging.INFO)
    _note_connections()
    with background.reporting() as report:
        if "fail" in options:
            raise MountError("this daemon fails on demand")
        if "die" in options:
            sys.exit("last words")
        if "plain" in options:
            _refuse_handshake()
        if "unmounted" in options:
            _unmount_before_mounting()
        for option in options:
            if option.startswith("grace="):
                session.GRACE = float(option.partition("=")[2])
                session.HARD_LIMIT = session.GRACE + 2
        locks = os.open(volume / "locks", os.O_RDONLY)
        with Lock(locks, b"mount").exclusive(blocking=False) as held:
            held.write_owner(this_process(str(mountpoint.absolute())))
            try:
                serve(
                    volume,
                    mountpoint,
                    handshake.Options(allow_other="allow-other" in options),
                    Tiny(volume),
                    Notifier(),
                    ready=report.ready,
                    stopping=lambda: logging.info("tiny is stopping"),
                    supervised=Supervised.from_environment(),
                )
            finally:
                logging.info("tiny has stopped")


def _note_connections() -> None:
    connect = handshake.connect

    def noted(*arguments: Any) -> handshake.FuseConnection:
        connections.append(connect(*arguments))
        return connections[-1]

    handshake.connect = noted  # type: ignore[assignment]


def _refuse_handshake() -> None:
    def refuse(*_: object) -> int:
        raise OSError("refused on demand")

    handshake._mount = refuse  # type: ignore[assignment]


def _unmount_before_mounting() -> None:
    mount = handshake._mount_directly

    def unmounted(mountpoint: Path, options: handshake.Options) -> int:
        mountinfo.detach(mountpoint)
        return mount(mountpoint, options)

    handshake._mount_directly = unmounted


if __name__ == "__main__":
    main(sys.argv[1:])
