"""Makes the FUSE mount and answers the kernel's first request (INIT) itself.

Owns the /dev/fuse descriptor until pyfuse3 has it, and the flags of the mount. Knows nothing of volumes and
nodes. ``connect`` blocks; call it before the event loop runs. ``FuseConnection.answer_init`` is called on the
loop's thread, by ``Operations.init()``.

libfuse up to 3.14 has no way to ask for several flags of the protocol that decide how many requests a mount
costs: HANDLE_KILLPRIV_V2 (without it a GETXATTR precedes each write(2)), PARALLEL_DIROPS, MAX_PAGES with a
size of our choice. So this module does the handshake instead:

    connect       opens /dev/fuse, mounts (mount(2), or fusermount3 for an ordinary user), reads the INIT that
                  the kernel has queued, and puts a copy of it into a socket pair
    pyfuse3       is given ``/dev/fd/N``, N being the other end of that pair: libfuse takes such a path for a
                  descriptor that is mounted already, and reads the INIT from it
    answer_init   answers the kernel through the device, and replaces N by the device with dup2(2). libfuse's
                  own answer follows that and has the number of a request that no longer waits: the kernel
                  says ENOENT, which libfuse expects of interrupted requests and ignores

The mount of a daemon that has died stays, and the new one is made over it, so that no process sees the
directory beneath meanwhile; mount(2) doesn't ask the dead one. It stays until the end, as the anchor of the
mount: a container that has a bind of the mountpoint itself, and shares what is mounted there, gets the new
mount with it. For an ordinary user the dead mount is detached first, since fusermount3 asks it.

If any of this fails, pyfuse3 mounts in its own way (``FuseConnection.plain``): slower, and with ASYNC_DIO,
which libfuse always asks for. Sources: fuse(4), linux/fuse.h, ``fuse_session_mount`` and ``do_init`` of
libfuse, _FUSE_COMMFD of fusermount3.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import select
import shutil
import socket
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from artfs.errors import MountError
from artfs.linux import mountinfo
from artfs.linux.dead_mounts import detach_topmost, pile
from artfs.linux.mountinfo import FILESYSTEM_TYPE, Mount, detach, last_line
from artfs.printing import printable

log = logging.getLogger(__name__)

DEVICE = "/dev/fuse"
HELPER = "fusermount3"

# linux/fuse.h
_INIT = 26
_IN_HEADER = struct.Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
_INIT_IN = struct.Struct("=IIII")  # major, minor, max_readahead, flags
_OUT_HEADER = struct.Struct("=IiQ")  # len, error, unique
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
_MAJOR = 7
_OLDEST_MINOR = 23  # from here on the answer has the length of _INIT_OUT
_SPOKEN_MINOR = 38

ASYNC_READ = 1 << 0
ATOMIC_O_TRUNC = 1 << 3
EXPORT_SUPPORT = 1 << 4
BIG_WRITES = 1 << 5
AUTO_INVAL_DATA = 1 << 12
DO_READDIRPLUS = 1 << 13
ASYNC_DIO = 1 << 15
WRITEBACK_CACHE = 1 << 16
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22
EXPLICIT_INVAL_DATA = 1 << 25
HANDLE_KILLPRIV_V2 = 1 << 28

# Not asked for, and why:
#   READDIRPLUS_AUTO       lets the kernel send plain READDIR, which pyfuse3 doesn't have
#   CACHE_SYMLINKS         an alias is a symlink that moves
#   POSIX_LOCKS, FLOCK_LOCKS   without them the kernel keeps locks itself, which is right for one kernel
#   AUTO_INVAL_DATA        drops a file's pages when its mtime moves; every change is made through this kernel
#   ASYNC_DIO              lets an O_DIRECT write by AIO or io_uring complete without a second invalidation of
#                          the page cache (fs/fuse/file.c, fuse_direct_IO): pages that a reader loaded
#                          meanwhile then stay stale. Without it the write has ended when io_submit(2) returns
#   NO_OPEN(DIR)_SUPPORT   opens are counted: a seal asks which files are open
#   DONT_MASK, POSIX_ACL   the kernel applies the umask; there are no default ACLs
#   SETXATTR_EXT, INIT_EXT change structures, or add flags, that libfuse 3.14 doesn't know
_WANTED = (
    ASYNC_READ
    | ATOMIC_O_TRUNC
    | EXPORT_SUPPORT  # lookups of "." and ".." are answered, also of forgotten nodes (open_by_handle_at, NFS)
    | BIG_WRITES
    | DO_READDIRPLUS
    | PARALLEL_DIROPS
    | MAX_PAGES
    | EXPLICIT_INVAL_DATA
    | HANDLE_KILLPRIV_V2
)

MAX_WRITE = 1024 * 1024  # also the largest that libfuse has a buffer for
_MAX_WRITE_WITHOUT_MAX_PAGES = 128 * 1024
_MAX_BACKGROUND = 64
_CONGESTION_THRESHOLD = 48
_READ_BUFFER = MAX_WRITE + 4096
_INIT_TIMEOUT = 10.0
_COST_OF_PLAIN = "writes cost more, and O_DIRECT writes by AIO can leave stale pages to other readers"

# linux/mount.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Options:
    """How to mount.

    ``source`` is what /proc/mounts shows as the device: the volume's path. ``time_granularity``, 1 to 10**9,
    is the nanoseconds by which times of the backing filesystem step: with a write cache the kernel makes
    mtimes itself.
    """

    source: str = "artfs"
    allow_other: bool = False
    read_only: bool = False
    write_cache: bool = False
    time_granularity: int = 1

    @property
    def flags(self) -> int:
        """The flags of the protocol that these options ask for, if the kernel has them."""
        return _WANTED | WRITEBACK_CACHE if self.write_cache else _WANTED


class FuseConnection:
    """A mount that is made, or that pyfuse3 is about to make, and the descriptors that lead to it.

    ``path_for_pyfuse`` and ``options_for_pyfuse`` are the arguments of ``pyfuse3.init``. ``flags`` are those
    of the mount once INIT was answered; None in the plain way, where libfuse decides. ``mount`` is its line
    of the mount table, None as long as pyfuse3 has not made it. ``dead`` is the mount of a dead daemon
    beneath it. ``failure`` says why the kernel refused the answer.
    """

    def __init__(self, mountpoint: Path, options: Options, dead: Mount | None = None) -> None:
        self.mountpoint = mountpoint
        self.options = options
        self.mount: Mount | None = None
        self.dead = dead
        self.path_for_pyfuse = str(mountpoint)
        self.options_for_pyfuse = frozenset(_plain_options(options))
        self.flags: int | None = None
        self.failure: Exception | None = None
        self._device = -1
        self._peer: socket.socket | None = None
        self._session_fd = -1
        self._request: bytes = b""

    @property
    def plain(self) -> bool:
        """Whether pyfuse3 mounts and answers by itself."""
        return self._session_fd < 0

    def answer_init(self) -> None:
        """Answers the kernel's INIT and hands the device to libfuse; ``Operations.init()`` calls it.

        Never raises, since pyfuse3 would lose the exception: ``failure`` has it, and the loop ends, because
        the descriptor that libfuse reads from is at its end.
        """
        if not self.plain and self._device >= 0:
            try:
                reply, self.flags = _reply(self._request, self.options)
                os.write(self._device, reply)
                # pyfuse3 holds the GIL while it reads. A request whose caller is killed between our poll(2)
                # and that read is taken back by the kernel, and a blocking read would then stop every thread.
                os.set_blocking(self._device, False)
                os.dup2(self._device, self._session_fd, inheritable=False)
            except OSError as error:
                log.error("the kernel refused the answer to its first request: %s", error)
                self.failure = error
            self._close_ends()

    def abandon(self) -> None:
        """Detaches the mount before pyfuse3 has it. The mount point is then as it was: free, or with a dead
        mount."""
        if self.plain:
            return
        self._close_ends()
        os.close(self._session_fd)
        if self.dead is None:
            detach(self.mountpoint)

    def _take_over(self, device: int) -> None:
        """Reads the INIT and prepares the descriptor from which libfuse will read it."""
        self._request = _read_init(device)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.send(self._request)
        self._device, self._peer, self._session_fd = device, ours, theirs.detach()
        self.path_for_pyfuse = f"/dev/fd/{self._session_fd}"
        self.options_for_pyfuse = frozenset()

    def _close_ends(self) -> None:
        if self._device >= 0:
            os.close(self._device)
            self._device = -1
        if self._peer is not None:
            self._peer.close()
            self._peer = None


def connect(mountpoint: Path, options: Options, dead: Mount | None = None) -> FuseConnection:
    """Mounts at the absolute path of an existing directory, and over ``dead``, if there is such a mount.

    Falls back to the plain way, with a warning in the log, where the handshake is not possible.

    Raises:
        MountError: this user or this machine can't mount at all, or ``dead`` was unmounted meanwhile.
    """
    connection = FuseConnection(mountpoint, options, dead)
    try:
        device = _mount(connection)
    except OSError as error:
        log.warning("artfs can't mount (%s), so libfuse does: %s", error, _COST_OF_PLAIN)
        _detach_dead(connection)
        return connection
    try:
        if connection.mount is None:
            connection.mount = mountinfo.at(mountpoint)
        connection._take_over(device)
    except (OSError, ValueError) as error:
        log.warning("the handshake failed (%s), so libfuse does it: %s", error, _COST_OF_PLAIN)
        os.close(device)
        connection.mount = None
        if connection.dead is None:
            detach(mountpoint)
        _detach_dead(connection)
    return connection


def _mount(connection: FuseConnection) -> int:
    """Mounts, and returns the device's descriptor."""
    point, options = connection.mountpoint, connection.options
    try:
        if connection.dead is None:
            return _mount_directly(point, options)
        return _mount_over_dead(connection)
    except PermissionError:
        # Root without CAP_SYS_ADMIN, and ordinary users.
        if shutil.which(HELPER) is None:
            raise MountError(
                "this process may not mount: mount as root, install the package fuse3,"
                " or start the container with '--cap-add SYS_ADMIN'"
            ) from None
        _detach_dead(connection)
        return _mount_by_helper(point, options)


def _mount_over_dead(connection: FuseConnection) -> int:
    """Mounts over the lowest dead mount, and nowhere else: one that is unmounted meanwhile is not mounted
    again."""
    point = connection.mountpoint
    dead = _detach_dead(connection, keep=1)
    assert dead is not None
    device = _mount_directly(point, connection.options)
    try:
        connection.mount = mountinfo.at(point)
        if connection.mount is None or connection.mount.parent != dead.id:
            raise _unmounted(connection)
    except BaseException:
        os.close(device)
        detach(point)
        raise
    return device


def _detach_dead(connection: FuseConnection, *, keep: int = 0) -> Mount | None:
    """Detaches the dead mounts but for the lowest, if one is to be kept; returns that."""
    if connection.dead is None:
        return None
    found = pile(connection.mountpoint, connection.options.source)
    if not found:
        raise _unmounted(connection)
    for _ in found[keep:]:
        detach_topmost(connection.mountpoint)
    connection.dead = found[0] if keep else None
    return connection.dead


def _unmounted(connection: FuseConnection) -> MountError:
    return MountError(f"{printable(os.fsencode(connection.mountpoint))} was unmounted meanwhile")


def _mount_directly(mountpoint: Path, options: Options) -> int:
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    owner = f"user_id={os.getuid()},group_id={os.getgid()}"
    words = [f"fd={device},rootmode={stat.S_IFDIR:o},{owner}", *_permission_options(options)]
    flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if options.read_only else 0)
    try:
        result = _libc.mount(
            os.fsencode(options.source),
            os.fsencode(mountpoint),
            FILESYSTEM_TYPE.encode(),
            ctypes.c_ulong(flags),
            ",".join(words).encode(),
        )
        if result != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(mountpoint))
    except BaseException:
        os.close(device)
        raise
    return device


def _mount_by_helper(mountpoint: Path, options: Options) -> int:
    """Mounts by the setuid helper, which sends the device's descriptor over a socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        command = [HELPER, "-o", ",".join(_helper_options(options)), "--", os.fspath(mountpoint)]
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
        )
        theirs.close()
        if result.returncode != 0:
            why = last_line(result.stderr) or f"fusermount3 failed with status {result.returncode}"
            if os.strerror(errno.EPERM) in why:
                why = (
                    f"this process may not mount ({why}): mount as root, or start the container with"
                    f" '--cap-add SYS_ADMIN --device {DEVICE}'"
                )
            raise MountError(why)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise OSError("fusermount3 sent no descriptor")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _permission_options(options: Options) -> list[str]:
    return ["default_permissions", *["allow_other"] * options.allow_other]


def _libfuse_options(options: Options, source: str) -> list[str]:
    access = "ro" if options.read_only else "rw"
    return [access, "nosuid", "nodev", f"fsname={source}", "subtype=artfs", *_permission_options(options)]


def _helper_options(options: Options) -> list[str]:
    return _libfuse_options(options, options.source.replace("\\", "\\\\").replace(",", "\\,"))


def _plain_options(options: Options) -> list[str]:
    # pyfuse3 takes ASCII only. The name of the device is not worth a failure.
    simple = options.source.isascii() and "\\" not in options.source and "," not in options.source
    return _libfuse_options(options, options.source if simple else "artfs")


def _read_init(device: int) -> bytes:
    """Reads the request that mount(2) has queued.

    Raises:
        ValueError: it is not an INIT, or one of another protocol.
        OSError: it doesn't arrive.
    """
    poller = select.poll()
    poller.register(device, select.POLLIN)
    if not poller.poll(_INIT_TIMEOUT * 1000):
        raise TimeoutError("no request from the kernel")
    request = os.read(device, _READ_BUFFER)
    if len(request) < _IN_HEADER.size + _INIT_IN.size or _IN_HEADER.unpack_from(request)[1] != _INIT:
        raise ValueError("the kernel's first request is no INIT")
    major, minor, _, _ = _INIT_IN.unpack_from(request, _IN_HEADER.size)
    if major != _MAJOR or minor < _OLDEST_MINOR:
        raise ValueError(f"the kernel speaks version {major}.{minor} of the protocol")
    return request


def _reply(request: bytes, options: Options) -> tuple[bytes, int]:
    """Makes the answer to an INIT: its bytes, and the flags that both sides know."""
    unique = _IN_HEADER.unpack_from(request)[2]
    _, minor, max_readahead, offered = _INIT_IN.unpack_from(request, _IN_HEADER.size)
    flags = options.flags & offered
    max_write = MAX_WRITE if flags & MAX_PAGES else _MAX_WRITE_WITHOUT_MAX_PAGES
    pages = max_write // os.sysconf("SC_PAGE_SIZE") if flags & MAX_PAGES else 0
    body = _INIT_OUT.pack(
        _MAJOR,
        min(minor, _SPOKEN_MINOR),
        max_readahead,
        flags,
        _MAX_BACKGROUND,
        _CONGESTION_THRESHOLD,
        max_write,
        options.time_granularity,
        pages,
        0,  # map_alignment: no DAX
        0,  # flags2
    )
    return _OUT_HEADER.pack(_OUT_HEADER.size + len(body), 0, unique) + body, flags
