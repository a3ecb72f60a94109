"""The calls on two paths, and the pairs of operands that they are run on."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from tests.conformance.comparing import give
from tests.conformance.driver import RENAME_EXCHANGE, RENAME_NOREPLACE, OsFilesystem
from tests.conformance.helpers import write

PairCall = Callable[[OsFilesystem, bytes, bytes], None]

PAIR_CALLS: dict[str, PairCall] = {
    "rename": lambda fs, old, new: fs.rename(old, new),
    "rename(RENAME_NOREPLACE)": lambda fs, old, new: fs.rename(old, new, RENAME_NOREPLACE),
    "rename(RENAME_EXCHANGE)": lambda fs, old, new: fs.rename(old, new, RENAME_EXCHANGE),
    "link": lambda fs, old, new: fs.link(old, new),
}


@dataclass(frozen=True)
class Pair:
    """The nodes at ``old/it`` and ``new/it`` of a directory, and the modes of both directories."""

    old: str
    new: str
    old_mode: int = 0o775  # directories with other modes are root's
    new_mode: int = 0o775
    paths: tuple[bytes, bytes] = (b"old/it", b"new/it")


_KINDS = ("file", "symlink", "fifo", "empty", "full", "root's file", "root's directory", "missing")
#: Pairs that no version holds.
_LATER = ("fifo",)

PAIRS: dict[str, Pair] = {f"{old} to {new}": Pair(old, new) for old, new in product(_KINDS, _KINDS)}
PAIRS["two names of one file"] = Pair("file", "missing")
PAIRS["within a directory"] = Pair("file", "missing", paths=(b"old/it", b"old/new"))
PAIRS["directory within a directory"] = Pair("empty", "missing", paths=(b"old/it", b"old/new"))
PAIRS["into itself"] = Pair("full", "missing", paths=(b"old/it", b"old/it/new"))
PAIRS["into what is below itself"] = Pair("full", "missing", paths=(b"old", b"old/it/new"))
PAIRS["to what is above itself"] = Pair("full", "missing", paths=(b"old/it/in", b"old/it"))
PAIRS["directory to what is above it"] = Pair("full", "missing", paths=(b"old/it", b"old"))
PAIRS["file to below a file"] = Pair("file", "file", paths=(b"old/it", b"new/it/new"))
PAIRS["to a missing directory"] = Pair("file", "missing", paths=(b"old/it", b"new/it/new"))
PAIRS["from a missing directory"] = Pair("missing", "file", paths=(b"old/it/old", b"new/it"))
PAIRS["file to a slash"] = Pair("file", "missing", paths=(b"old/it", b"new/it/"))
PAIRS["directory to a slash"] = Pair("full", "missing", paths=(b"old/it", b"new/it/"))
PAIRS["directory to dot"] = Pair("empty", "empty", paths=(b"old/it", b"new/it/."))
PAIRS["dot dot to a name"] = Pair("empty", "missing", paths=(b"old/it/..", b"new/it"))
PAIRS["to a name too long"] = Pair("file", "missing", paths=(b"old/it", b"new/" + b"n" * 256))
PAIRS["to a name of 255 bytes"] = Pair("file", "missing", paths=(b"old/it", b"new/" + b"n" * 255))
_MODES = {"sticky": 0o1777, "read-only": 0o555, "closed": 0o700, "no x": 0o666, "setgid": 0o2777}
for what, mode in _MODES.items():
    for kind in ("file", "empty", "root's file", "root's directory"):
        PAIRS[f"{kind} from {what}"] = Pair(kind, "missing", old_mode=mode)
        PAIRS[f"{kind} to {what}"] = Pair(kind, "missing", new_mode=mode)
    PAIRS[f"over a file in {what}"] = Pair("file", "file", new_mode=mode)
    PAIRS[f"over root's file in {what}"] = Pair("file", "root's file", new_mode=mode)
    PAIRS[f"over root's directory in {what}"] = Pair("empty", "root's directory", new_mode=mode)


def _make(fs: OsFilesystem, kind: str, path: bytes) -> None:
    if kind in ("file", "root's file"):
        write(fs, path, kind.encode())
    elif kind == "symlink":
        fs.symlink(b"nowhere", path)
    elif kind == "fifo":
        fs.mknod(path, stat.S_IFIFO | 0o664)
    elif kind != "missing":
        fs.mkdir(path)
        if kind == "full":
            write(fs, path + b"/in", kind.encode())
            give(fs, path + b"/in")
    if kind != "missing" and not kind.startswith("root's"):
        give(fs, path)


def build(fs: OsFilesystem, first: bool) -> None:
    """Fills a slot with all pairs."""
    for name, pair in PAIRS.items():
        at = name.encode()
        sides = ((b"/old", pair.old, pair.old_mode), (b"/new", pair.new, pair.new_mode))
        if first:
            fs.mkdir(at)
            give(fs, at)
        for side, kind, _ in sides:
            if first:
                fs.mkdir(at + side)
            if first != (kind in _LATER):
                _make(fs, kind, at + side + b"/it")
        if name == "two names of one file" and not first:
            fs.link(at + b"/old/it", at + b"/new/it")
        for side, _, mode in sides:
            if first:
                fs.chmod(at + side, mode & 0o1777)
                if mode == 0o775:
                    give(fs, at + side)
            elif mode & stat.S_ISGID:
                fs.chmod(at + side, mode)
