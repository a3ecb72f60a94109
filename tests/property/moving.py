"""The machine with concurrent versions: the base of a patch moves, and finishes come at bad times."""

from __future__ import annotations

import contextlib
import stat

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.conformance.driver import Filesystem, When
from tests.conformance.helpers import write
from tests.property.drawing import TARGETS, contents, directory_modes, file_modes, names, xattr_values
from tests.property.looking import MOMENTS, joined, look
from tests.property.patch_rules import outcome
from tests.property.probing import ProbingMachine

_DOINGS = [
    "write",
    "write",
    "same",
    "same",
    "chmod",
    "mkdir",
    "symlink",
    "remove",
    "remove",
    "rename",
    "mark",
    "age",
]


class MovingMachine(ProbingMachine):
    """Uses a pending version while others make versions of the same collection."""

    @precondition(lambda self: self.base)
    @rule(data=st.data(), doings=st.lists(st.sampled_from(_DOINGS), min_size=1, max_size=5))
    def make_another_version(self, data: st.DataObject, doings: list[str]) -> None:
        """Changes the newest version in another patch, including some of the changes made here."""
        if not self.versions:
            return
        other = self.world.elsewhere("latest")
        for doing in doings:
            with contextlib.suppress(OSError):
                self._do(other, doing, data)
        done = self.world.finish_elsewhere()
        self.say(f"somebody finishes {done}")
        if not done.unchanged:
            self.record_version(done.version)

    def _do(self, fs: Filesystem, doing: str, data: st.DataObject) -> None:
        there = look(fs)
        directories = [path for path, seen in there.items() if seen.kind == stat.S_IFDIR]
        # Mostly paths that were changed here, so that the changes meet.
        here = look(self.reference)
        changed = [path for path, seen in here.items() if path and there.get(path) != seen]
        paths = sorted(path for path in {*there, *changed} if path and len(path) < 2000)
        path = joined(data.draw(st.sampled_from(directories)), data.draw(names))
        path = data.draw(st.sampled_from([path, *paths, *sorted(changed) * 4]))
        self.say(f"somebody: {doing} {path[:60]!r}")
        match doing:
            case "write":
                write(fs, path, data.draw(contents), data.draw(file_modes))
            case "same":
                self._do_the_same(fs, path)
            case "chmod":
                fs.chmod(path, data.draw(file_modes))
            case "mkdir":
                fs.mkdir(path, data.draw(directory_modes))
            case "symlink":
                fs.symlink(data.draw(st.sampled_from(TARGETS)), path)
            case "remove":
                _remove(fs, path)
            case "rename":
                fs.rename(path, joined(data.draw(st.sampled_from(directories)), data.draw(names)))
            case "mark":
                name = data.draw(st.sampled_from([b"user.a", b"user.artfs.run"]))
                fs.setxattr(path, name, data.draw(xattr_values))
            case "age":
                fs.utimens(path, When.OMIT, data.draw(st.sampled_from(MOMENTS)), False)

    def _do_the_same(self, fs: Filesystem, path: bytes) -> None:
        """Makes one of the changes made here."""
        seen = look(self.reference).get(path)
        _remove(fs, path)
        if seen is None:
            return
        if seen.kind == stat.S_IFDIR:
            fs.mkdir(path)
        elif seen.kind == stat.S_IFLNK:
            fs.symlink(seen.content or b"", path)
        elif seen.kind == stat.S_IFREG:
            write(fs, path, seen.content or b"")
        if seen.kind in (stat.S_IFDIR, stat.S_IFREG):
            fs.chmod(path, seen.mode & 0o1777)
            for name, value in seen.xattrs:
                fs.setxattr(path, name, value)

    @precondition(lambda self: self.base == "latest" and self.versions)
    @rule(tries=st.sampled_from([1, 1, 2, 3]))
    def write_the_base_again(self, tries: int) -> None:
        if self.moved:
            self.remove_fifos(self.world.rebase)
        self.compare_all()
        for _ in range(tries):
            self.rebase()
            self.compare_all()

    @precondition(lambda self: any(file.writes and file.has_a_name for file in self.files))
    @rule(data=st.data())
    def finish_by_force(self, data: st.DataObject) -> None:
        self.remove_fifos(lambda: self.world.finish(force=True))
        self.seal(data, force=True)
        self.compare_all()

    @precondition(lambda self: any(file.writes and file.has_a_name for file in self.files))
    @rule()
    def finish_while_files_are_written(self) -> None:
        self.say("finish while files are open for writing")
        assert outcome(self.world.finish) == ("EBUSY", None)


def _remove(fs: Filesystem, path: bytes) -> None:
    found = look(fs)
    if path not in found:
        return
    for below in sorted((p for p in found if p == path or p.startswith(path + b"/")), reverse=True):
        (fs.rmdir if found[below].kind == stat.S_IFDIR else fs.unlink)(below)
