"""What a volume requires of its filesystem, each requirement as a trial on files of its own.

Owns: the list, and what shows that a requirement is met. Must not know where it is tried. Blocking; any
thread.

A trial does not trust the result of a call: it checks the files. Some filesystems report that they exchanged
two names and have overwritten one; some lose an open file when its last name is removed.
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
"""The most bits of a backing inode number: a mount uses the upper ones for the kind of node."""

# These say nothing about what the filesystem can do.
UNRELATED_ERRNOS = frozenset((
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR,
    errno.ENOTCONN, errno.ECONNABORTED, errno.ETIMEDOUT,
))  # fmt: skip
_NS = 10**9 + 123_456_789
_OTHER_USER = 65534  # a user and group id other than root's


class Unmet(Exception):
    """The requirement is not met; the text says why not."""


class Limited(Exception):
    """The requirement is not met, but a volume works without it; the text says what users can't do."""


class TrialDirectory:
    """A directory for one trial, empty before and after it, and the descriptors that the trial opens."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._held: list[int] = []

    def __enter__(self) -> TrialDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._held:
            with contextlib.suppress(OSError):
                os.close(fd)
        for name in self.names():
            with contextlib.suppress(OSError):
                tree_removal.remove_tree(self.fd, name)

    def keep(self, fd: int) -> int:
        """Closes a descriptor at the end of the trial."""
        self._held.append(fd)
        return fd

    def open(self, name: bytes, flags: int = os.O_RDWR, mode: int = 0o600) -> int:
        return self.keep(os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.fd))

    def make(self, name: bytes, data: bytes = b"") -> os.stat_result:
        """Creates a file and closes it."""
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


Trial: TypeAlias = Callable[[TrialDirectory], None]


def _check(met: bool, why: str) -> None:
    if not met:
        raise Unmet(why)


def _new_files(box: TrialDirectory) -> None:
    box.make(b"a", b"abc")
    os.pwrite(box.open(b"a"), b"X", 1)
    _check(box.content(b"a") == b"aXc", "reading does not return what was written")
    try:
        box.make(b"a")
    except FileExistsError:
        return
    raise Unmet("O_EXCL opens an existing file")


def _links(box: TrialDirectory) -> None:
    before = box.make(b"a", b"1")
    box.link(b"a", b"b")
    one, two = box.stat(b"a"), box.stat(b"b")
    _check(one.st_ino == two.st_ino == before.st_ino, "a file's names have different inode numbers")
    _check(one.st_nlink == two.st_nlink == 2, "a file's names are not counted")
    os.pwrite(box.open(b"a"), b"2", 0)
    _check(box.content(b"b") == b"2", "a write through one name of a file is not read through the other")
    with contextlib.suppress(FileExistsError):
        box.make(b"c", b"3")
        box.link(b"c", b"b")
        raise Unmet("a link replaces an existing file")
    box.make(b"d", b"4")
    box.link(b"d", b"e")
    box.unlink(b"d")
    _check(box.stat(b"e").st_nlink == 1, "a file's names are not counted")
    _check(box.names() == {b"a", b"b", b"c", b"e"}, "a removed name stays")


def _renames(box: TrialDirectory) -> None:
    moved = box.make(b"a", b"new")
    box.make(b"b", b"old")
    box.rename(b"a", b"b")
    _check(box.names() == {b"b"} and box.content(b"b") == b"new", "a file is not replaced as a whole")
    number = box.stat(b"b").st_ino
    box.rename(b"b", b"c")
    same = number == box.stat(b"c").st_ino == moved.st_ino
    _check(same, "a renamed file has another inode number")
    box.mkdir(b"d")
    box.mkdir(b"empty")
    directory = box.mkdir(b"d/e")
    file = box.make(b"d/e/f")
    held = box.keep(durable.open_directory(box.fd, b"d/e"))
    box.rename(b"d", b"empty")
    _check(box.names() == {b"c", b"empty"}, "a directory does not replace an empty one")
    _check(os.stat(b"f", dir_fd=held).st_ino == file.st_ino, "an open directory is lost when it is renamed")
    found = box.stat(b"empty/e").st_ino, box.stat(b"empty/e/f").st_ino
    _check(found == (directory.st_ino, file.st_ino), "inode numbers change when a directory is renamed")


def _inode_numbers(box: TrialDirectory) -> None:
    names = [b"f%d" % index for index in range(8)]
    numbers = [box.make(name).st_ino for name in names]
    _check(len(set(numbers)) == len(numbers), "two files have the same one")
    _check([box.stat(name).st_ino for name in names] == numbers, "that of a file changes")
    opened = [os.fstat(box.open(name)).st_ino for name in names]
    _check(opened == numbers, "that of a file changes when it is opened again")
    _check(
        max(numbers).bit_length() <= INODE_BITS, f"they are of more than {INODE_BITS} bits, as {max(numbers)}"
    )
    with durable.directory(box.fd, b".") as fd, os.scandir(fd) as entries:
        listed = {entry.inode() for entry in entries}
    _check(listed == set(numbers), "a directory lists others")


def _noreplace(box: TrialDirectory) -> None:
    box.make(b"a", b"1")
    box.make(b"b", b"2")
    with contextlib.suppress(FileExistsError):
        durable.rename_noreplace(box.fd, b"a", box.fd, b"b")
        raise Unmet("RENAME_NOREPLACE does not refuse an existing name")
    _check(box.names() == {b"a", b"b"} and box.content(b"b") == b"2", "RENAME_NOREPLACE replaces a file")
    durable.rename_noreplace(box.fd, b"a", box.fd, b"c")
    _check(box.names() == {b"b", b"c"} and box.content(b"c") == b"1", "RENAME_NOREPLACE does not rename")


def _exchanges(box: TrialDirectory) -> None:
    whole = {b"a", b"b", b"d", b"e"}
    one, other = box.make(b"a", b"1"), box.make(b"b", b"2")
    directory, second = box.mkdir(b"d"), box.mkdir(b"e")
    try:
        syscalls.renameat2(box.fd, b"a", box.fd, b"b", syscalls.RENAME_EXCHANGE)
        syscalls.renameat2(box.fd, b"d", box.fd, b"e", syscalls.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in durable.UNSUPPORTED:
            raise
        unchanged = box.names() == whole and {box.content(b"a"), box.content(b"b")} == {b"1", b"2"}
        _check(unchanged, "RENAME_EXCHANGE fails, and changes files")
        raise Limited("RENAME_EXCHANGE in a pending version is EINVAL") from None
    done = box.names() == whole and box.content(b"a") == b"2" and box.content(b"b") == b"1"
    numbers = [box.stat(name).st_ino for name in (b"a", b"b", b"d", b"e")]
    done = done and numbers == [other.st_ino, one.st_ino, second.st_ino, directory.st_ino]
    _check(done, "RENAME_EXCHANGE succeeds, and does not exchange")


def _removed_files(box: TrialDirectory) -> None:
    """Holds files by descriptors as users open them, and as a mount does."""
    box.mkdir(b"d")
    box.make(b"new", b"other")
    for name in (b"d/users", b"d/held", b"d/replaced"):
        box.make(name, name)
    users = box.open(b"d/users")
    held, replaced = (box.keep(regular_files.hold_open(box.fd, name)) for name in (b"d/held", b"d/replaced"))
    box.unlink(b"d/users")
    box.unlink(b"d/held")
    box.rename(b"new", b"d/replaced")
    _check(box.names(b"d") == {b"replaced"}, "removing one leaves another name")
    for fd in (users, held, replaced):
        _check(_count(fd) == 0, "they are lost when they are removed or replaced")
    os.ftruncate(users, 7)
    os.pwrite(users, b"X", 0)
    found = [os.pread(fd, 99, 0) for fd in (users, held, replaced)]
    _check(found == [b"X/users", b"d/held", b"d/replaced"], "their bytes change when they are removed")
    box.unlink(b"d/replaced")
    os.rmdir(b"d", dir_fd=box.fd)
    try:
        for fd in (users, held):
            os.chmod(f"/proc/self/fd/{fd}", 0o640)
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in UNRELATED_ERRNOS:
            raise
        raise Limited(f"fchmod and opening them through /proc fails: {error.strerror}") from None


def _count(fd: int) -> int:
    """Returns the number of names of an open file; -1 if the filesystem has lost it."""
    try:
        return os.fstat(fd).st_nlink
    except OSError as error:
        if error.errno in UNRELATED_ERRNOS:
            raise
        return -1


def _second_names(box: TrialDirectory) -> None:
    box.make(b"a", b"1")
    box.link(b"a", b"b")
    held = box.keep(regular_files.hold_open(box.fd, b"a"))
    box.unlink(b"a")
    _check(_count(held) == 1 and os.pread(held, 9, 0) == b"1", "they are lost when one name is removed")
    os.chmod(f"/proc/self/fd/{held}", 0o640)
    _check(
        stat.S_IMODE(box.stat(b"b").st_mode) == 0o640, "a change through one name does not show in the other"
    )


def _symlinks(box: TrialDirectory) -> None:
    target = b"../some where/" + b"t" * 200
    os.symlink(target, b"a", dir_fd=box.fd)
    found = box.stat(b"a")
    _check(stat.S_ISLNK(found.st_mode) and os.readlink(b"a", dir_fd=box.fd) == target, "their target changes")
    syscalls.utimensat(box.fd, b"a", None, _NS)
    _check(box.stat(b"a").st_mtime_ns // 10**9 == 1, "their times can't be set")


def _modes(box: TrialDirectory) -> None:
    box.make(b"a")
    box.mkdir(b"d")
    for name, mode in ((b"a", 0o640), (b"a", 0o751), (b"a", 0o400), (b"d", 0o750)):
        handle = box.open(name, os.O_PATH)
        os.chmod(f"/proc/self/fd/{handle}", mode)
        found = stat.S_IMODE(box.stat(name).st_mode)
        _check(found == mode, f"{mode:o} becomes {found:o}")
    if os.geteuid() == 0:
        try:
            os.chown(b"a", _OTHER_USER, _OTHER_USER, dir_fd=box.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in UNRELATED_ERRNOS:
                raise
            raise Limited(f"files can't belong to other users: {error.strerror}") from None
        _check(box.stat(b"a").st_uid == _OTHER_USER, "chown succeeds, and does not change the owner")


def _times(box: TrialDirectory) -> None:
    box.make(b"a", b"1")
    syscalls.utimensat(box.fd, b"a", None, _NS)
    lost = _NS - box.stat(b"a").st_mtime_ns
    _check(0 <= lost < 10**9, "an mtime that is set is not kept")
    if lost:
        raise Limited("mtimes are kept to the second" if lost >= 10**6 else "mtimes lose their last digits")


def _xattrs(box: TrialDirectory) -> None:
    box.make(b"a")
    box.mkdir(b"d")
    for path in (f"/proc/self/fd/{box.open(b'a')}", f"/proc/self/fd/{box.fd}/d"):
        os.setxattr(path, "user.artfs.probe", b"value")
        found = os.getxattr(path, "user.artfs.probe"), os.listxattr(path)
        _check(found[0] == b"value" and "user.artfs.probe" in found[1], "they are not kept")


def _locks(box: TrialDirectory) -> None:
    box.make(b"a")
    box.mkdir(b"d")
    for name, flags in ((b"a", os.O_RDWR), (b"d", os.O_RDONLY | os.O_DIRECTORY)):
        one, other = box.open(name, flags), box.open(name, flags)
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # durable.directory_lock then locks a file in the directory; Lock locks files only.
            if name == b"d" and error.errno in (errno.EBADF, *durable.UNSUPPORTED):
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


def _names(box: TrialDirectory) -> None:
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
            box.make(name)
        except OSError as error:
            if error.errno in UNRELATED_ERRNOS:
                raise
            limits.append(what)
        else:
            made.add(name)
    _check(box.names() == made, "some are kept in another spelling")
    with contextlib.suppress(FileNotFoundError):
        box.stat(b"aA")
        raise Unmet("upper and lower case are the same")
    if limits:
        raise Limited(f"it refuses {', '.join(limits)}")


#: Each in the words of a refusal: "its filesystem lacks ...". Basic ones are first.
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
