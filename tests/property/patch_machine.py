"""The machine that applies random operations to a pending version and to a real directory."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.conformance.driver import RENAME_EXCHANGE, RENAME_NOREPLACE, OsFilesystem, When
from tests.property.drawing import (
    CHANGING,
    MAKING,
    TARGETS,
    contents,
    directory_modes,
    file_modes,
    names,
    offsets,
    owners,
    sizes,
    times,
    xattr_names,
    xattr_values,
)
from tests.property.looking import MOMENTS, joined, look
from tests.property.memory import ViewWorld
from tests.property.patch_rules import AS_ROOT, Comparison, Cursor, Pair, can_be_opened, outcome
from tests.property.worlds import Seat, World


class PatchMachine(Comparison):
    """Uses a patch as an ordinary directory."""

    #: How many files a directory of the base has besides others.
    many = (0, 0, 0, 9, 30)

    def __init__(self, make: Callable[[Path], World] = ViewWorld) -> None:
        super().__init__(make)

    # -- where

    def pair(self, data: st.DataObject) -> Pair:
        return data.draw(st.sampled_from([self.top, self.top, *self.seats])) if self.seats else self.top

    @staticmethod
    def paths(pair: Pair) -> tuple[list[bytes], list[bytes]]:
        """Returns the directories, and all other paths, of the reference."""
        directories: list[bytes] = []
        others: list[bytes] = []
        todo = [b""]
        while todo:
            path = todo.pop()
            directories.append(path)
            with os.scandir(pair.reference.path(path)) as found:
                for entry in sorted(found, key=lambda entry: entry.name):
                    (todo if entry.is_dir(follow_symlinks=False) else others).append(joined(path, entry.name))
        # The path in the reference is the longer one.
        return [path for path in directories if len(path) < 2000], [
            path for path in others if len(path) < 2500
        ]

    def a_new(self, data: st.DataObject, pair: Pair) -> bytes:
        """Draws a path whose directory exists, perhaps through a symlink."""
        directories, others = self.paths(pair)
        links = [path for path in others if os.path.isdir(pair.reference.path(path))]
        return joined(data.draw(st.sampled_from(directories + links)), data.draw(names))

    def any_path(self, data: st.DataObject, pair: Pair, *, top: bool = False) -> bytes:
        """Draws a path, mostly an existing one; with `top` it may be b"" """
        directories, others = self.paths(pair)
        there = directories[0 if top else 1 :] + others
        found = data.draw(st.sampled_from(there) | st.none()) if there else None
        return self.a_new(data, pair) if found is None else found

    def a_file(self, data: st.DataObject, pair: Pair) -> bytes:
        """Draws a path, mostly of an entry that is no directory."""
        others = self.paths(pair)[1]
        found = data.draw(st.sampled_from(others) | st.none()) if others else None
        return self.any_path(data, pair) if found is None else found

    def a_directory(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(self.paths(self.top)[0]))

    # -- the base

    @initialize(data=st.data(), looks=st.sampled_from(["warm", "cold", "seldom"]))
    def make_base(self, data: st.DataObject, looks: str) -> None:
        for _ in range(data.draw(st.integers(0, 12), label="entries")):
            self._make_one(data)
        many = data.draw(st.sampled_from(self.many), label="many")
        if many:
            directory = self.a_directory(data)
            self.say(f"{many} files in {directory!r}")
            for number, fs in itertools.product(range(many), (self.reference, self.world.fs)):
                with fs.open(joined(directory, b"%d" % number), os.O_WRONLY | os.O_CREAT) as file:
                    file.pwrite(b"of many", 0)
        moment = data.draw(st.sampled_from([None, *MOMENTS]), label="age")
        if moment is not None:
            self.age(moment)
        if data.draw(st.integers(0, 3), label="seal"):
            self.seal(data)
        self.looks = looks

    def _make_one(self, data: st.DataObject) -> None:
        path = self.a_new(data, self.top)
        match data.draw(st.sampled_from(["file", "file", "directory", "directory", "symlink", "holes"])):
            case "file":
                self.write(self.top, path, os.O_WRONLY | os.O_CREAT, 0, data.draw(contents), 0o644)
                if can_be_opened(self.top, path):
                    self.both("chmod", path, data.draw(file_modes))
            case "holes":
                self.write(self.top, path, os.O_WRONLY | os.O_CREAT, 200_000, b"end", 0o644)
                self.both("setxattr", path, b"user.a", b"of the base")
            case "directory":
                self.both("mkdir", path, data.draw(directory_modes))
                if data.draw(st.booleans()):
                    self.both("setxattr", path, b"user.b", b"of the base")
            case "symlink":
                self.both("symlink", data.draw(st.sampled_from(TARGETS)), path)

    # -- files

    @rule(
        data=st.data(),
        flags=st.sampled_from(CHANGING + MAKING),
        offset=offsets,
        content=contents,
        mode=file_modes,
    )
    def write_file(self, data: st.DataObject, flags: int, offset: int, content: bytes, mode: int) -> None:
        pair = self.pair(data)
        self.write(pair, self.a_file(data, pair), flags, offset, content, mode)

    @rule(data=st.data(), size=sizes)
    def truncate(self, data: st.DataObject, size: int) -> None:
        pair = self.pair(data)
        path = self.a_file(data, pair)
        if can_be_opened(pair, path):
            self.both("truncate", path, size, on=pair)

    @precondition(lambda self: len(self.files) < 4)
    @rule(data=st.data(), flags=st.sampled_from([os.O_RDONLY] * 6 + CHANGING + MAKING))
    def open(self, data: st.DataObject, flags: int) -> None:
        pair = self.pair(data)
        path = self.a_file(data, pair)
        if not os.path.isdir(pair.reference.path(path)):
            file = self.opened(pair, path, flags)
            self.files += [] if file is None else [file]

    @precondition(lambda self: 0 < len(self.files) < 4)
    @rule(data=st.data(), flags=st.sampled_from([os.O_RDONLY, *CHANGING]))
    def open_again(self, data: st.DataObject, flags: int) -> None:
        file = data.draw(st.sampled_from(self.files))
        if not file.outlived:
            again = self.opened_again(file, flags)
            self.files += [] if again is None else [again]

    @precondition(lambda self: self.files)
    @rule(data=st.data(), offset=offsets, content=contents)
    def write_on(self, data: st.DataObject, offset: int, content: bytes) -> None:
        self.put(data.draw(st.sampled_from(self.files)), offset, content)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), size=sizes)
    def truncate_open(self, data: st.DataObject, size: int) -> None:
        file = data.draw(st.sampled_from(self.files))
        self.of_both(file, lambda of: of.truncate(size), f"truncate({size})")

    @precondition(lambda self: self.files)
    @rule(data=st.data(), mode=file_modes)
    def chmod_open(self, data: st.DataObject, mode: int) -> None:
        file = data.draw(st.sampled_from(self.files))
        self.of_both(file, lambda of: of.chmod(mode), f"chmod(0o{mode:o})")

    @precondition(lambda self: any(not file.outlived for file in self.files))
    @rule(data=st.data(), name=xattr_names, value=xattr_values)
    def setxattr_open(self, data: st.DataObject, name: bytes, value: bytes) -> None:
        file = data.draw(st.sampled_from([file for file in self.files if not file.outlived]))
        self.of_both(file, lambda of: of.setxattr(name, value), f"setxattr({name!r}, {len(value)} bytes)")

    @precondition(lambda self: self.files)
    @rule(data=st.data(), how=st.sampled_from(["unlink", "unlink", "cover", "move"]))
    def take_name_from_open(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(self.files)).reference.stat().ino
        others = self.paths(self.top)[1]
        for path in [path for path in others if self.reference.stat(path).ino == number]:
            if how == "unlink":
                self.both("unlink", path)
            elif how == "cover":
                self.both("rename", data.draw(st.sampled_from(others)), path)
            else:
                self.both("rename", path, self.a_new(data, self.top))

    @precondition(lambda self: len(self.files) < 4)
    @rule(data=st.data(), flags=st.sampled_from(CHANGING), content=contents, mode=file_modes)
    def go_on_without_a_name(self, data: st.DataObject, flags: int, content: bytes, mode: int) -> None:
        path = self.a_file(data, self.top)
        if os.path.isdir(self.reference.path(path)):
            return
        file = self.opened(self.top, path, os.O_RDONLY)
        if file is None:
            return
        self.files.append(file)
        others = [other for other in self.paths(self.top)[1] if other != path]
        if data.draw(st.booleans()) and others:
            self.both("rename", data.draw(st.sampled_from(others)), path)
        else:
            self.both("unlink", path)
        for how in data.draw(st.lists(st.sampled_from(["chmod", "setxattr", "write"]), max_size=2)):
            if how == "chmod":
                self.of_both(file, lambda of: of.chmod(mode), f"chmod(0o{mode:o})")
            elif how == "setxattr":
                self.of_both(file, lambda of: of.setxattr(b"user.a", b"v"), "setxattr(b'user.a', b'v')")
            else:
                again = self.opened_again(file, flags)
                assert again is not None
                if again.writes:
                    self.put(again, 3, content)
                again.close()

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(self.files))
        self.say(f"{file}: close")
        self.files.remove(file)
        file.close()

    # -- names

    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        pair = self.pair(data)
        self.both("unlink", self.a_file(data, pair), on=pair)

    @rule(data=st.data(), mode=directory_modes)
    def mkdir(self, data: st.DataObject, mode: int) -> None:
        pair = self.pair(data)
        self.both("mkdir", self.a_new(data, pair), mode, on=pair)

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        pair = self.pair(data)
        self.both("rmdir", self.any_path(data, pair), on=pair)

    @rule(data=st.data(), flags=st.sampled_from([0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE]))
    def rename(self, data: st.DataObject, flags: int) -> None:
        pair = self.pair(data)
        old = self.any_path(data, pair)
        new = self.a_new(data, pair) if data.draw(st.booleans()) else self.any_path(data, pair)
        self.both("rename", old, new, flags, on=pair)

    @rule(data=st.data())
    def rename_to_and_fro(self, data: st.DataObject) -> None:
        pair = self.pair(data)
        old, new = self.any_path(data, pair), self.a_new(data, pair)
        if self.both("rename", old, new, RENAME_NOREPLACE, on=pair):
            self.both("rename", new, old, on=pair)

    @rule(data=st.data(), emptied=st.booleans())
    def rename_over_a_directory(self, data: st.DataObject, emptied: bool) -> None:
        old, new = self.a_directory(data), self.a_directory(data)
        if b"" in (old, new) or (old + b"/").startswith(new + b"/"):
            return
        if emptied:
            for name in sorted(map(os.fsencode, os.listdir(self.reference.path(new)))):
                self.remove(self.top, joined(new, name))
        self.both("rename", old, new)

    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        pair = self.pair(data)
        self.both("link", self.a_file(data, pair), self.a_new(data, pair), on=pair)

    @rule(data=st.data(), to=st.sampled_from(TARGETS))
    def symlink(self, data: st.DataObject, to: bytes) -> None:
        pair = self.pair(data)
        self.both("symlink", to, self.a_new(data, pair), on=pair)

    @rule(data=st.data(), kind=st.sampled_from([stat.S_IFIFO, stat.S_IFREG]), mode=file_modes)
    def mknod(self, data: st.DataObject, kind: int, mode: int) -> None:
        pair = self.pair(data)
        self.both("mknod", self.a_new(data, pair), kind | mode, on=pair)

    @rule(data=st.data(), content=contents, mode=directory_modes)
    def replace_by_the_other_kind(self, data: st.DataObject, content: bytes, mode: int) -> None:
        pair = self.pair(data)
        path = self.any_path(data, pair)
        if self.remove(pair, path):
            self.write(pair, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0, content, 0o644)
        else:
            self.both("mkdir", path, mode, on=pair)

    @rule(data=st.data(), again=st.booleans(), mode=directory_modes)
    def remove_all(self, data: st.DataObject, again: bool, mode: int) -> None:
        """Removes whole directories, and perhaps makes them again, empty."""
        pair = self.pair(data)
        for directory in self.remove(pair, self.any_path(data, pair)):
            if again:
                self.both("mkdir", directory, mode, on=pair)

    # -- attributes

    @rule(data=st.data())
    def chmod(self, data: st.DataObject) -> None:
        pair = self.pair(data)
        path = self.any_path(data, pair, top=True)
        modes = directory_modes if os.path.isdir(pair.reference.path(path)) else file_modes
        self.both("chmod", path, data.draw(modes), on=pair)

    @precondition(lambda self: AS_ROOT)
    @rule(data=st.data(), owner=owners, follow=st.booleans())
    def chown(self, data: st.DataObject, owner: tuple[int, int], follow: bool) -> None:
        pair = self.pair(data)
        self.both("chown", self.any_path(data, pair, top=True), *owner, follow, on=pair)

    @precondition(lambda self: AS_ROOT)
    @rule(data=st.data(), owner=owners, mode=st.sampled_from([0o4755, 0o2755, 0o2644, 0o6711]))
    def give_away(self, data: st.DataObject, owner: tuple[int, int], mode: int) -> None:
        path = self.a_file(data, self.top)
        if self.both("chmod", path, mode):
            self.both("chown", path, *owner)

    @rule(data=st.data(), atime=times, mtime=times, follow=st.booleans())
    def utimens(self, data: st.DataObject, atime: int | When, mtime: int | When, follow: bool) -> None:
        pair = self.pair(data)
        if (atime, mtime) != (When.OMIT, When.OMIT):  # then the kernel does not look up the file
            self.both("utimens", self.any_path(data, pair, top=True), atime, mtime, follow, on=pair)

    @rule(
        data=st.data(),
        name=xattr_names,
        value=xattr_values,
        flags=st.sampled_from([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE]),
    )
    def setxattr(self, data: st.DataObject, name: bytes, value: bytes, flags: int) -> None:
        pair = self.pair(data)
        self.both("setxattr", self.any_path(data, pair, top=True), name, value, flags, on=pair)

    @rule(data=st.data())
    def removexattr(self, data: st.DataObject) -> None:
        marked = [(path, name) for path, seen in look(self.reference).items() for name, _ in seen.xattrs]
        if data.draw(st.booleans()) and marked:
            self.both("removexattr", *data.draw(st.sampled_from(marked)))
        else:
            self.both("removexattr", self.any_path(data, self.top), data.draw(xattr_names))

    # -- held directories

    @precondition(lambda self: len(self.seats) < 2)
    @rule(data=st.data())
    def hold_a_directory(self, data: st.DataObject) -> None:
        path = self.a_directory(data)
        self.say(f"sit down in {path!r}")
        ours, reference = self.world.seat(path), Seat.of(self.reference.path(path))
        assert isinstance(reference.fs, OsFilesystem)
        self.seats.append(Pair(ours.fs, reference.fs, (ours, reference)))

    @precondition(lambda self: self.seats)
    @rule(data=st.data())
    def release_a_directory(self, data: st.DataObject) -> None:
        seat = data.draw(st.sampled_from(self.seats))
        self.say("get up")
        self.seats.remove(seat)
        seat.leave()

    @precondition(lambda self: len(self.cursors) < 2)
    @rule(data=st.data(), count=st.integers(0, 8))
    def start_listing(self, data: st.DataObject, count: int) -> None:
        path = self.a_directory(data)
        seat = self.world.seat(path)
        if seat.listing is not None:
            self.say(f"list {count} entries of {path!r}")
            self.cursors.append(Cursor.of(seat.listing(), self.reference.path(path)))
            self.cursors[-1].go_on(count)
        seat.leave()

    @precondition(lambda self: self.cursors)
    @rule(data=st.data(), count=st.sampled_from([1, 3, 1000]))
    def go_on_listing(self, data: st.DataObject, count: int) -> None:
        cursor = data.draw(st.sampled_from(self.cursors))
        self.say(f"list {count} entries more")
        if not cursor.go_on(count):
            self.cursors.remove(cursor)
            cursor.end()

    # -- the world changes

    @rule()
    def forget(self) -> None:
        self.say("forget")
        self.world.forget()

    @rule()
    def gc(self) -> None:
        self.say("gc")
        self.world.gc()

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def delete_version(self, data: st.DataObject) -> None:
        """Deletes a version, which may be the base; the alias of the newest one then moves back."""
        name = data.draw(st.sampled_from(self.versions))
        self.say(f"delete {name}")
        self.versions.remove(name)
        self.world.delete(name)

    @precondition(lambda self: self.world.restarts)
    @rule()
    def restart(self) -> None:
        self.say("restart")
        self.end_listings()
        self.let_go(readers=True)
        self.world.restart()
        self.compare_all()

    @rule(data=st.data(), moment=st.sampled_from([None, *MOMENTS]))
    def finish(self, data: st.DataObject, moment: int | None) -> None:
        self.let_go(readers=False)
        self.remove_fifos(self.world.finish)
        if moment is not None:
            self.age(moment)
        self.compare_all()
        self.seal(data)
        self.compare_all()

    def remove_fifos(self, call: Callable[[], object]) -> None:
        """Asserts that each fifo makes a finish fail, and removes it."""
        for path, seen in sorted(look(self.reference).items()):
            if seen.kind == stat.S_IFIFO:
                self.let_go(readers=False)
                self.say("finish or rebase with a fifo")
                assert outcome(call) == ("EINVAL", None)
                self.both("unlink", path)
