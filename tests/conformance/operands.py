"""The operands of single calls: each is a path and its node, in a directory of its own.

So a call's effect on the parent is visible, and the calls of a slot do not interfere. Nearly all nodes belong
to the owner and are writable by the owner's group.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.comparing import give
from tests.conformance.driver import OsFilesystem
from tests.conformance.helpers import OLD, write

PATH_MAX = 4096


@dataclass(frozen=True)
class Operand:
    """One path. ``path`` makes it, relative to the root, of the operand's directory."""

    base: Callable[[OsFilesystem, bytes], object]  # what a version may hold
    more: Callable[[OsFilesystem, bytes], object] = lambda fs, at: None  # for pending trees only
    name: bytes = b"it"
    directory_mode: int = 0o775
    directory_owner: bool = True  # else it is root's
    length: int = 0  # of the whole path, which is drawn out


def _file(fs: OsFilesystem, at: bytes, mode: int = 0o664, data: bytes = b"four", name: bytes = b"it") -> None:
    write(fs, at + b"/" + name, data)
    fs.chmod(at + b"/" + name, mode)
    give(fs, at + b"/" + name)


def _directory(fs: OsFilesystem, at: bytes, *inside: bytes, name: bytes = b"it", mode: int = 0o775) -> None:
    fs.mkdir(at + b"/" + name)
    fs.chmod(at + b"/" + name, mode)
    for below in inside:
        write(fs, at + b"/" + name + b"/" + below, below)
        give(fs, at + b"/" + name + b"/" + below)
    give(fs, at + b"/" + name)


def _link(target: bytes) -> Callable[[OsFilesystem, bytes], None]:
    def make(fs: OsFilesystem, at: bytes) -> None:
        fs.symlink(target, at + b"/it")
        give(fs, at + b"/it")

    return make


def _node(kind: int) -> Callable[[OsFilesystem, bytes], None]:
    def make(fs: OsFilesystem, at: bytes) -> None:
        fs.mknod(at + b"/it", kind | 0o664)
        fs.chmod(at + b"/it", 0o664)
        give(fs, at + b"/it")

    return make


def _both(*makes: Callable[[OsFilesystem, bytes], object]) -> Callable[[OsFilesystem, bytes], None]:
    def make(fs: OsFilesystem, at: bytes) -> None:
        for one in makes:
            one(fs, at)

    return make


def _target(fs: OsFilesystem, at: bytes) -> None:
    _file(fs, at, name=b"target", data=b"target")


def _hard(fs: OsFilesystem, at: bytes) -> None:
    fs.link(at + b"/it", at + b"/second")


def _xattrs(fs: OsFilesystem, at: bytes) -> None:
    fs.setxattr(at + b"/it", b"user.k", b"value")


def _nothing(fs: OsFilesystem, at: bytes) -> None:
    pass


def _mode(mode: int) -> Callable[[OsFilesystem, bytes], None]:
    return lambda fs, at: fs.chmod(at + b"/it", mode)


def _roots(fs: OsFilesystem, at: bytes) -> None:
    write(fs, at + b"/it", b"root's")
    fs.chmod(at + b"/it", 0o600)


def _foreign(fs: OsFilesystem, at: bytes) -> None:
    write(fs, at + b"/it", b"root's")
    fs.chmod(at + b"/it", 0o666)


def _old(fs: OsFilesystem, at: bytes) -> None:
    fs.utimens(at + b"/it", OLD, OLD)


OPERANDS: dict[str, Operand] = {
    "file": Operand(_file),
    "empty file": Operand(lambda fs, at: _file(fs, at, data=b"")),
    "large file": Operand(lambda fs, at: _file(fs, at, data=b"large" * 20_000)),
    "old file": Operand(_both(_file, _old)),
    "file with xattrs": Operand(_both(_file, _xattrs)),
    "read-only file": Operand(lambda fs, at: _file(fs, at, 0o444)),
    "closed file": Operand(lambda fs, at: _file(fs, at, 0o000)),
    "root's file": Operand(_roots),
    "root's open file": Operand(_foreign),
    "setuid program": Operand(lambda fs, at: _file(fs, at, 0o775), _mode(0o6775)),
    "setuid program open to all": Operand(lambda fs, at: _file(fs, at, 0o777), _mode(0o6777)),
    "setgid without x": Operand(lambda fs, at: _file(fs, at, 0o664), _mode(0o2664)),
    "setgid without x open to all": Operand(lambda fs, at: _file(fs, at, 0o666), _mode(0o2666)),
    "hard link": Operand(_file, _hard),
    "empty directory": Operand(_directory),
    "full directory": Operand(lambda fs, at: _directory(fs, at, b"in")),
    "closed directory": Operand(lambda fs, at: _directory(fs, at, b"in", mode=0o700)),
    "directory without x": Operand(lambda fs, at: _directory(fs, at, b"in", mode=0o664)),
    "setgid directory": Operand(_directory, _mode(0o2775)),
    "symlink to a file": Operand(_both(_target, _link(b"target"))),
    "symlink to a directory": Operand(
        _both(lambda fs, at: _directory(fs, at, b"in", name=b"target"), _link(b"target"))
    ),
    "dangling symlink": Operand(_link(b"nowhere")),
    "symlink to itself": Operand(_link(b"it")),
    "symlink to a name too long": Operand(_link(b"n" * 256)),
    "fifo": Operand(_nothing, _node(stat.S_IFIFO)),
    "socket": Operand(_nothing, _node(stat.S_IFSOCK)),
    "missing": Operand(_nothing),
    "missing parent": Operand(_nothing, name=b"missing/it"),
    "below a file": Operand(_file, name=b"it/below"),
    "below a symlink to itself": Operand(_link(b"it"), name=b"it/below"),
    "below a directory without x": Operand(
        lambda fs, at: _directory(fs, at, b"in", mode=0o664), name=b"it/in"
    ),
    "slash behind a file": Operand(_file, name=b"it/"),
    "slash behind a directory": Operand(_directory, name=b"it/"),
    "slash behind a symlink to a directory": Operand(
        _both(lambda fs, at: _directory(fs, at, b"in", name=b"target"), _link(b"target")), name=b"it/"
    ),
    "slash behind a missing name": Operand(_nothing, name=b"it/"),
    "dot": Operand(_directory, name=b"it/."),
    "dot dot": Operand(_directory, name=b"it/.."),
    "name of 255 bytes": Operand(lambda fs, at: _file(fs, at, name=b"n" * 255), name=b"n" * 255),
    "missing name of 255 bytes": Operand(_nothing, name=b"\xff" * 255),
    "name of 256 bytes": Operand(_nothing, name=b"n" * 256),
    "path of 4095 bytes": Operand(_file, length=PATH_MAX - 1),
    "path of 4096 bytes": Operand(_file, length=PATH_MAX),
    "odd name": Operand(lambda fs, at: _file(fs, at, name=b"\xff\n\\ '"), name=b"\xff\n\\ '"),
    "in a closed directory": Operand(_file, directory_mode=0o700, directory_owner=False),
    "in a read-only directory": Operand(_file, directory_mode=0o555, directory_owner=False),
    "missing in a read-only directory": Operand(_nothing, directory_mode=0o555, directory_owner=False),
    "in a directory without x": Operand(_file, directory_mode=0o666, directory_owner=False),
    "in a sticky directory": Operand(_file, directory_mode=0o1777, directory_owner=False),
    "root's in a sticky directory": Operand(_foreign, directory_mode=0o1777, directory_owner=False),
    "root's symlink in a sticky directory": Operand(
        _both(_target, lambda fs, at: fs.symlink(b"target", at + b"/it")),
        directory_mode=0o1777,
        directory_owner=False,
    ),
    "directory in a sticky directory": Operand(_directory, directory_mode=0o1777, directory_owner=False),
    "missing in an open directory": Operand(_nothing, directory_mode=0o777, directory_owner=False),
}
#: Operands whose directories contain what no version holds.
SETGID_PARENTS = ("missing in a setgid directory",)
OPERANDS["missing in a setgid directory"] = Operand(_nothing, directory_mode=0o777)


def directory_of(name: str) -> bytes:
    return name.encode()


def build(fs: OsFilesystem, first: bool) -> None:
    """Fills a slot with all operands."""
    for name, operand in OPERANDS.items():
        at = directory_of(name)
        if first:
            fs.mkdir(at)
            operand.base(fs, at)
            if operand.directory_owner:
                give(fs, at)
            fs.chmod(at, operand.directory_mode)
        else:
            operand.more(fs, at)
            if name in SETGID_PARENTS:
                fs.chmod(at, 0o2777)


def path_of(fs: OsFilesystem, name: str) -> bytes:
    """The path of an operand, relative to a root."""
    operand = OPERANDS[name]
    path = directory_of(name) + b"/" + operand.name
    if operand.length:
        missing = operand.length - len(fs.path(path))
        dots = b"./" * (missing // 2) + (b"/" if missing % 2 else b"")
        path = directory_of(name) + b"/" + dots + operand.name
        assert len(fs.path(path)) == operand.length
    return path


def bind(path: bytes) -> None:
    """Binds a socket to a path that may be too long, by its directory."""
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(b"/proc/self/fd/%d/" % directory + os.path.basename(path))
    finally:
        os.close(directory)
