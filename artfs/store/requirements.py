"""The needs of a volume, each as a trial on files of its own.

Owns: the list, and what shows that a need is met. Must not know who asks, and where. Blocking; any thread.

A trial never believes an answer: it looks at what became of the files. Some filesystems say that they
exchanged two names and have overwritten one, some forget an open file when its last name goes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import TypeAlias

from artfs.linux import syscalls
from artfs.store import durable, regular_files, tree_removal

INODE_BITS = 59
"""So many bits a backing inode number has at most: the upper ones tell what kind of node a mount shows."""

# They say nothing of what the filesystem can do.
UNRELATED_ERRNOS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EROFS,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EINTR,
        errno.ENOTCONN,
        errno.ECONNABORTED,
        errno.ETIMEDOUT,
    }
)
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_NS = 10**9 + 123_456_789
_OTHER_USER = 65534  # a user and group other than root


class Unmet(Exception):
    """The need is not met; the text says why not."""


class Limited(Exception):
    """The need is not met, and a volume goes without it; the text says what users can't do."""


class Sandbox:
    """An empty directory for one trial, and the descriptors that it holds. It is empty again afterwards."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._held: list[int] = []

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._held:
            with contextlib.suppress(OSError):
                os.close(fd)
        for name in self.names():
            with contextlib.suppress(OSError):
                tree_removal.remove_tree(self.fd, name)

    def keep(self, fd: int) -> int:
        """Has a descriptor closed at the end."""
        self._held.append(fd)
        return fd

    def open(self, name: bytes, flags: int = os.O_RDWR, mode: int = 0o600) -> int:
        return self.keep(os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.fd))

    def make(self, name: bytes, data: bytes = b"") -> os.stat_result:
        """Makes a file that nobody has open afterwards."""
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        try:
            durable.write_all(fd, data)
            return os.fstat(fd)
        finally:
            os.close(fd)

    def mkdir(self, name: bytes) -> os.stat_result:
        os.mkdir(name, 0o700, dir_fd=self.fd)
        return self.stat(name)

    def stat(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def rename(self, old: bytes, new: bytes) -> None:
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def link(self, old: bytes, new: bytes) -> None:
        os.link(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def unlink(self, name: bytes) -> None:
        os.unlink(name, dir_fd=self.fd)

    def names(self, inside: bytes = b".") -> set[bytes]:
        with durable.directory(self.fd, inside) as fd:
            return {os.fsencode(name) for name in os.listdir(fd)}

    def content(self, name: bytes) -> bytes:
        return durable.read(self.fd, name)


Trial: TypeAlias = Callable[[Sandbox], None]


def _require(met: bool, why: str) -> None:
    if not met:
        raise Unmet(why)


def _new_files(sandbox: Sandbox) -> None:
    sandbox.make(b"a", b"abc")
    os.pwrite(sandbox.open(b"a"), b"X", 1)
    _require(sandbox.content(b"a") == b"aXc", "written bytes are not read back")
    try:
        sandbox.make(b"a")
    except FileExistsError:
        return
    raise Unmet("O_EXCL opens a file that is there")


def _links(sandbox: Sandbox) -> None:
    before = sandbox.make(b"a", b"1")
    sandbox.link(b"a", b"b")
    one, two = sandbox.stat(b"a"), sandbox.stat(b"b")
    _require(one.st_ino == two.st_ino == before.st_ino, "a file's names have different inode numbers")
    _require(one.st_nlink == two.st_nlink == 2, "a file's names are not counted")
    os.pwrite(sandbox.open(b"a"), b"2", 0)
    _require(sandbox.content(b"b") == b"2", "what is written by one name of a file is not read by the other")
    with contextlib.suppress(FileExistsError):
        sandbox.make(b"c", b"3")
        sandbox.link(b"c", b"b")
        raise Unmet("a link replaces a file that is there")
    sandbox.make(b"d", b"4")
    sandbox.link(b"d", b"e")
    sandbox.unlink(b"d")
    _require(sandbox.stat(b"e").st_nlink == 1, "a file's names are not counted")
    _require(sandbox.names() == {b"a", b"b", b"c", b"e"}, "a name that is removed stays")


def _renames(sandbox: Sandbox) -> None:
    moved = sandbox.make(b"a", b"new")
    sandbox.make(b"b", b"old")
    sandbox.rename(b"a", b"b")
    _require(
        sandbox.names() == {b"b"} and sandbox.content(b"b") == b"new", "a file is not replaced as a whole"
    )
    number = sandbox.stat(b"b").st_ino
    sandbox.rename(b"b", b"c")
    same = number == sandbox.stat(b"c").st_ino == moved.st_ino
    _require(same, "a renamed file has another inode number")
    sandbox.mkdir(b"d")
    sandbox.mkdir(b"empty")
    directory = sandbox.mkdir(b"d/e")
    file = sandbox.make(b"d/e/f")
    held = sandbox.keep(durable.open_directory(sandbox.fd, b"d/e"))
    sandbox.rename(b"d", b"empty")
    _require(sandbox.names() == {b"c", b"empty"}, "a directory does not replace an empty one")
    _require(os.stat(b"f", dir_fd=held).st_ino == file.st_ino, "an open directory is lost when it is renamed")
    found = sandbox.stat(b"empty/e").st_ino, sandbox.stat(b"empty/e/f").st_ino
    _require(found == (directory.st_ino, file.st_ino), "inode numbers change when a directory is renamed")


def _inode_numbers(sandbox: Sandbox) -> None:
    names = [b"f%d" % index for index in range(8)]
    numbers = [sandbox.make(name).st_ino for name in names]
    _require(len(set(numbers)) == len(numbers), "files share one")
    _require([sandbox.stat(name).st_ino for name in names] == numbers, "a file has another one each time")
    opened = [os.fstat(sandbox.open(name)).st_ino for name in names]
    _require(opened == numbers, "a file has another one when it is opened again")
    _require(
        max(numbers).bit_length() <= INODE_BITS, f"they are of more than {INODE_BITS} bits, as {max(numbers)}"
    )
    with durable.directory(sandbox.fd, b".") as fd, os.scandir(fd) as entries:
        listed = {entry.inode() for entry in entries}
    _require(listed == set(numbers), "a directory lists other ones")


def _noreplace(sandbox: Sandbox) -> None:
    sandbox.make(b"a", b"1")
    sandbox.make(b"b", b"2")
    with contextlib.suppress(FileExistsError):
        durable.rename_noreplace(sandbox.fd, b"a", sandbox.fd, b"b")
        raise Unmet("RENAME_NOREPLACE does not see that a file is in the way")
    _require(
        sandbox.names() == {b"a", b"b"} and sandbox.content(b"b") == b"2", "RENAME_NOREPLACE replaces a file"
    )
    durable.rename_noreplace(sandbox.fd, b"a", sandbox.fd, b"c")
    _require(
        sandbox.names() == {b"b", b"c"} and sandbox.content(b"c") == b"1", "RENAME_NOREPLACE does not rename"
    )


def _exchanges(sandbox: Sandbox) -> None:
    whole = {b"a", b"b", b"d", b"e"}
    one, other = sandbox.make(b"a", b"1"), sandbox.make(b"b", b"2")
    directory, second = sandbox.mkdir(b"d"), sandbox.mkdir(b"e")
    try:
        syscalls.renameat2(sandbox.fd, b"a", sandbox.fd, b"b", syscalls.RENAME_EXCHANGE)
        syscalls.renameat2(sandbox.fd, b"d", sandbox.fd, b"e", syscalls.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        unchanged = sandbox.names() == whole and {sandbox.content(b"a"), sandbox.content(b"b")} == {
            b"1",
            b"2",
        }
        _require(unchanged, "RENAME_EXCHANGE says no, and changes files")
        raise Limited("RENAME_EXCHANGE in a pending version is EINVAL") from None
    done = sandbox.names() == whole and sandbox.content(b"a") == b"2" and sandbox.content(b"b") == b"1"
    numbers = [sandbox.stat(name).st_ino for name in (b"a", b"b", b"d", b"e")]
    done = done and numbers == [other.st_ino, one.st_ino, second.st_ino, directory.st_ino]
    _require(done, "RENAME_EXCHANGE says yes, and does not exchange")


def _removed_files(sandbox: Sandbox) -> None:
    """Holds files by descriptors of two kinds: those of users, and those of a mount."""
    sandbox.mkdir(b"d")
    sandbox.make(b"new", b"other")
    for name in (b"d/users", b"d/held", b"d/replaced"):
        sandbox.make(name, name)
    users = sandbox.open(b"d/users")
    held, replaced = (
        sandbox.keep(regular_files.hold(sandbox.fd, name)) for name in (b"d/held", b"d/replaced")
    )
    sandbox.unlink(b"d/users")
    sandbox.unlink(b"d/held")
    sandbox.rename(b"new", b"d/replaced")
    _require(sandbox.names(b"d") == {b"replaced"}, "they get another name when they are removed")
    for fd in (users, held, replaced):
        _require(_count(fd) == 0, "they are lost when they are removed or replaced")
    os.ftruncate(users, 7)
    os.pwrite(users, b"X", 0)
    found = [os.pread(fd, 99, 0) for fd in (users, held, replaced)]
    _require(found == [b"X/users", b"d/held", b"d/replaced"], "they have other bytes when they are removed")
    sandbox.unlink(b"d/replaced")
    os.rmdir(b"d", dir_fd=sandbox.fd)
    try:
        for fd in (users, held):
            os.chmod(f"/proc/self/fd/{fd}", 0o640)
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in UNRELATED_ERRNOS:
            raise
        raise Limited(f"fchmod and opening them by /proc is: {error.strerror}") from None


def _count(fd: int) -> int:
    """Returns the number of names of an open file; -1 if the filesystem does not know it any more."""
    try:
        return os.fstat(fd).st_nlink
    except OSError as error:
        if error.errno in UNRELATED_ERRNOS:
            raise
        return -1


def _second_names(sandbox: Sandbox) -> None:
    sandbox.make(b"a", b"1")
    sandbox.link(b"a", b"b")
    held = sandbox.keep(regular_files.hold(sandbox.fd, b"a"))
    sandbox.unlink(b"a")
    _require(_count(held) == 1 and os.pread(held, 9, 0) == b"1", "they are lost when they lose one name")
    os.chmod(f"/proc/self/fd/{held}", 0o640)
    _require(
        stat.S_IMODE(sandbox.stat(b"b").st_mode) == 0o640, "what is changed by one name is not by the other"
    )


def _symlinks(sandbox: Sandbox) -> None:
    target = b"../some where/" + b"t" * 200
    os.symlink(target, b"a", dir_fd=sandbox.fd)
    found = sandbox.stat(b"a")
    _require(
        stat.S_ISLNK(found.st_mode) and os.readlink(b"a", dir_fd=sandbox.fd) == target, "their target changes"
    )
    syscalls.utimensat(sandbox.fd, b"a", None, _NS)
    _require(sandbox.stat(b"a").st_mtime_ns // 10**9 == 1, "their times can't be set")


def _modes(sandbox: Sandbox) -> None:
    sandbox.make(b"a")
    sandbox.mkdir(b"d")
    for name, mode in ((b"a", 0o640), (b"a", 0o751), (b"a", 0o400), (b"d", 0o750)):
        handle = sandbox.open(name, os.O_PATH)
        os.chmod(f"/proc/self/fd/{handle}", mode)
        found = stat.S_IMODE(sandbox.stat(name).st_mode)
        _require(found == mode, f"{mode:o} becomes {found:o}")
    if os.geteuid() == 0:
        try:
            os.chown(b"a", _OTHER_USER, _OTHER_USER, dir_fd=sandbox.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in UNRELATED_ERRNOS:
                raise
            raise Limited(f"files can't be other users': {error.strerror}") from None
        _require(
            sandbox.stat(b"a").st_uid == _OTHER_USER, "a file that is given to another user stays its owner's"
        )


def _times(sandbox: Sandbox) -> None:
    sandbox.make(b"a", b"1")
    syscalls.utimensat(sandbox.fd, b"a", None, _NS)
    lost = _NS - sandbox.stat(b"a").st_mtime_ns
    _require(0 <= lost < 10**9, "an mtime that is set is not kept")
    if lost:
        raise Limited("mtimes are kept to the second" if lost >= 10**6 else "mtimes lose their last digits")


def _xattrs(sandbox: Sandbox) -> None:
    sandbox.make(b"a")
    sandbox.mkdir(b"d")
    for path in (f"/proc/self/fd/{sandbox.open(b'a')}", f"/proc/self/fd/{sandbox.fd}/d"):
        os.setxattr(path, "user.artfs.probe", b"value")
        found = os.getxattr(path, "user.artfs.probe"), os.listxattr(path)
        _require(found[0] == b"value" and "user.artfs.probe" in found[1], "they are not kept")


def _locks(sandbox: Sandbox) -> None:
    sandbox.make(b"a")
    sandbox.mkdir(b"d")
    for name, flags in ((b"a", os.O_RDWR), (b"d", os.O_RDONLY | os.O_DIRECTORY)):
        one, other = sandbox.open(name, flags), sandbox.open(name, flags)
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # durable.directory_lock locks a file in it then, and Lock none but files.
            if name == b"d" and error.errno in (errno.EBADF, *_UNSUPPORTED):
                return
            raise
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            raise Unmet("a lock does not exclude a second one")
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _names(sandbox: Sandbox) -> None:
    made = set()
    limits = []
    for name, what in (
        (b"Aa", "letters"),
        (b"e\xcc\x81", "names with accents"),
        (b"dot.", "names that end in a dot"),
        (b'a:b*?"<>|\\', 'names with \\ : * ? " < > |'),
        (b"\xff\xfe", "names that are not UTF-8"),
        (b"n" * 255, "names of 255 bytes"),
    ):
        try:
            sandbox.make(name)
        except OSError as error:
            if error.errno in UNRELATED_ERRNOS:
                raise
            limits.append(what)
        else:
            made.add(name)
    _require(sandbox.names() == made, "some are kept in another spelling")
    with contextlib.suppress(FileNotFoundError):
        sandbox.stat(b"aA")
        raise Unmet("capital and small letters are the same")
    if limits:
        raise Limited(f"it refuses {', '.join(limits)}")


#: As a refusal has it: "its filesystem lacks ...". The first ones first.
REQUIREMENTS: tuple[tuple[str, Trial], ...] = (
    ("files", _new_files),
    ("hard links", _links),
    ("renames", _renames),
    ("renames that replace nothing", _noreplace),
    ("exchanges of names", _exchanges),
    ("symlinks", _symlinks),
    ("modes and owners", _modes),
    ("times", _times),
    ("user xattrs", _xattrs),
    ("flock", _locks),
    ("names", _names),
    ("stable inode numbers", _inode_numbers),
    ("open files that are removed", _removed_files),
    ("open files with two names", _second_names),
)
