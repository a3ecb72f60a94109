"""The machine with calls that mostly change nothing: reads of all kinds, unusual paths, refused names."""

from __future__ import annotations

import os
import stat
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.conformance.driver import Filesystem, Status
from tests.property.drawing import offsets, sizes, xattr_names
from tests.property.looking import joined
from tests.property.patch_machine import PatchMachine
from tests.property.patch_rules import Pair, agree, can_be_opened, flags_in_words, outcome

#: What follows an existing or missing path.
TAILS = [
    b"",
    b"/.",
    b"/..",
    b"/missing",
    b"/missing/file",
    b"/" + b"l" * 256,
    b"/.artfs@lower",
    b"/.artfs@gone",
    b"/.artfs@gone/a",
    b"/.artfs@base",
    b"/.artfs@x",
]
RESERVED = [b".artfs@lower", b".artfs@gone", b".artfs@base", b".artfs@x", b".artfs@", b".artfs"]
FLAGS = [os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY]


def _told(status: Status) -> tuple[Any, ...]:
    """Returns the comparable part of stat(2); sizes and link counts of directories differ."""
    own = () if status.kind == stat.S_IFDIR else (status.size, status.nlink)
    return status.mode, status.uid, status.gid, *own


def _xattrs(fs: Filesystem, path: bytes) -> list[bytes]:
    return sorted(name for name in fs.listxattr(path) if name.startswith(b"user."))


class ProbingMachine(PatchMachine):
    """Makes many queries, and calls that must fail."""

    def odd_path(self, data: st.DataObject, pair: Pair) -> bytes | None:
        """Draws a path of any kind; None if it leaves the tree, where the two sides differ."""
        path = self.any_path(data, pair, top=True) + data.draw(st.sampled_from(TAILS))
        path = path.lstrip(b"/")
        top, full = pair.reference.path(b""), pair.reference.path(path)
        real, root = os.path.realpath(full), os.path.realpath(top)
        return path if (real + b"/").startswith(root + b"/") else None

    def ask(self, data: st.DataObject, pair: Pair, path: bytes, how: str) -> None:
        name = data.draw(xattr_names) if how == "getxattr" else b""

        def answer(fs: Filesystem) -> object:
            match how:
                case "stat":
                    return _told(fs.stat(path, True))
                case "lstat":
                    return _told(fs.stat(path))
                case "readlink":
                    return fs.readlink(path)
                case "listdir":
                    return sorted(name for name in fs.listdir(path))
                case "listxattr":
                    return _xattrs(fs, path)
                case "getxattr":
                    return fs.getxattr(path, name)
                case "fsyncdir":
                    fs.fsyncdir(path)
                    return None
            raise AssertionError(how)

        self.say(f"{how}({path[:60]!r}{f', {name!r}' if name else ''})")
        expected, got = (outcome(lambda fs=fs: answer(fs)) for fs in (pair.reference, pair.ours))  # type: ignore[misc]
        agree(expected, got, f"{how} of {path!r}")

    @rule(
        data=st.data(),
        how=st.sampled_from(
            ["stat", "stat", "lstat", "readlink", "listdir", "listxattr", "getxattr", "fsyncdir"]
        ),
    )
    def look_at_a_path(self, data: st.DataObject, how: str) -> None:
        pair = self.pair(data)
        path = self.odd_path(data, pair)
        if path is None or (how in ("fsyncdir", "listdir") and not can_be_opened(pair, path)):
            return
        self.ask(data, pair, path, how)

    @rule(
        data=st.data(),
        how=st.sampled_from(
            ["unlink", "rmdir", "mkdir", "symlink", "link", "mknod", "rename", "truncate", "removexattr"]
        ),
    )
    def change_an_odd_path(self, data: st.DataObject, how: str) -> None:
        pair = self.pair(data)
        path = self.odd_path(data, pair)
        if not path or b".artfs@" in path or (how == "truncate" and not can_be_opened(pair, path)):
            return
        arguments: tuple[Any, ...] = (path,)
        if how in ("mkdir", "truncate"):
            arguments += (data.draw(sizes) if how == "truncate" else 0o755,)
        elif how == "mknod":
            arguments += (stat.S_IFREG | 0o644,)
        elif how == "symlink":
            arguments = b"a", path
        elif how == "removexattr":
            arguments += (data.draw(xattr_names),)
        elif how in ("link", "rename"):
            other = self.any_path(data, pair)
            arguments = (path, other) if data.draw(st.booleans()) else (other, path)
        self.both(how, *arguments, on=pair)

    @rule(
        data=st.data(),
        access=st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]),
        more=st.sets(st.sampled_from(FLAGS)),
    )
    def open_in_any_way(self, data: st.DataObject, access: int, more: set[int]) -> None:
        flags = access | sum(more)
        if flags & os.O_DIRECTORY and flags & (os.O_CREAT | os.O_TRUNC):
            return  # kernels differ for the first, and the second is meaningless
        if flags & os.O_EXCL and not flags & os.O_CREAT:
            return  # undefined
        pair = self.pair(data)
        path = self.odd_path(data, pair)
        if path is None or not can_be_opened(pair, path) or (flags & os.O_CREAT and b".artfs@" in path):
            return
        self.say(f"open {path[:60]!r}, {flags_in_words(flags)}")

        def answer(fs: Filesystem) -> object:
            with fs.open(path, flags, 0o640) as file:
                return _told(file.stat())

        expected, got = (outcome(lambda fs=fs: answer(fs)) for fs in (pair.reference, pair.ours))  # type: ignore[misc]
        agree(expected, got, f"open of {path!r}")

    @precondition(lambda self: self.files)
    @rule(data=st.data(), offset=offsets, size=st.sampled_from([0, 1, 100, 5000, 100_000]))
    def read_at(self, data: st.DataObject, offset: int, size: int) -> None:
        file = data.draw(st.sampled_from(self.files))
        self.of_both(file, lambda of: of.pread(size, offset), f"pread({size}, {offset})")

    @precondition(lambda self: self.files)
    @rule(data=st.data(), data_only=st.booleans())
    def fsync(self, data: st.DataObject, data_only: bool) -> None:
        file = data.draw(st.sampled_from(self.files))
        self.of_both(file, lambda of: of.fsync(data_only), f"fsync({data_only})")

    @precondition(lambda self: any(not file.outlived for file in self.files))
    @rule(data=st.data(), name=xattr_names)
    def getxattr_open(self, data: st.DataObject, name: bytes) -> None:
        file = data.draw(st.sampled_from([file for file in self.files if not file.outlived]))
        self.of_both(file, lambda of: of.getxattr(name), f"getxattr({name!r})")

    @rule(
        data=st.data(),
        name=st.sampled_from(RESERVED),
        how=st.sampled_from(["open", "mkdir", "symlink", "mknod", "link", "rename", "exchange"]),
    )
    def use_a_reserved_name(self, data: st.DataObject, name: bytes, how: str) -> None:
        """Asserts that creating a reserved name is EINVAL and changes nothing."""
        directories, others = self.paths(self.top)
        directory = data.draw(st.sampled_from(directories))
        if (name == b".artfs" and not directory) or (how in ("link", "rename", "exchange") and not others):
            return
        path, fs = joined(directory, name), self.world.fs
        other = data.draw(st.sampled_from(others)) if others else b""
        self.say(f"{how} {path!r}")
        calls = {
            "open": lambda: fs.open(path, os.O_WRONLY | os.O_CREAT),
            "mkdir": lambda: fs.mkdir(path),
            "symlink": lambda: fs.symlink(b"a", path),
            "mknod": lambda: fs.mknod(path, stat.S_IFREG | 0o600),
            "link": lambda: fs.link(other, path),
            "rename": lambda: fs.rename(other, path),
            "exchange": lambda: fs.rename(other, path, 2),
        }
        assert outcome(calls[how])[0] == ("ENOENT" if how == "exchange" else "EINVAL")

    @precondition(lambda self: any(cursor.told for cursor in self.cursors))
    @rule(data=st.data())
    def seek_in_a_listing(self, data: st.DataObject) -> None:
        cursor = data.draw(st.sampled_from([cursor for cursor in self.cursors if cursor.told]))
        count = data.draw(st.integers(0, len(cursor.told) - 1))
        self.say(f"list again from entry {count}")
        cursor.go_back(count)
