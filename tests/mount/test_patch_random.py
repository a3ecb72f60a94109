"""Random operations on a mounted patch and on a real directory, with mappings, must give the same results.

The state machine is that of ``tests/property``; here the kernel's caches take part. ``ARTFS_PATCH_EXAMPLES``
sets the number of sequences.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from artfs.vfs.node import Attributes, Listed, Listing, Node
from tests.conformance.dirstream import Stream
from tests.conformance.driver import Filesystem, OpenFile, OsFile, OsFilesystem, When
from tests.mount.control import command, finish, show_json
from tests.mount.mounting import MountedVolume
from tests.property.looking import look
from tests.property.moving import MovingMachine
from tests.property.patch_rules import Opened
from tests.property.recording import Recorder
from tests.property.worlds import Finished, Seat, reopened

pytestmark = pytest.mark.fuse

TRACED = True

EXAMPLES = int(os.environ.get("ARTFS_PATCH_EXAMPLES", "25"))
STEPS = 40

_collections = itertools.count(1)


class MountedWorld:
    """A patch on a mount."""

    restarts = False

    def __init__(self, point: Path) -> None:
        self._collection = point / f"random-{os.getpid()}-{next(_collections)}"
        self._collection.mkdir()
        self._numbers = itertools.count()
        self.start(None)

    def start(self, base: str | None) -> None:
        self._tree, self._base = self._started(base), base
        self.fs: Filesystem = OsFilesystem(self._tree)

    def _started(self, base: str | None) -> Path:
        tree = self._collection / "pending" / f"job-{next(self._numbers)}"
        tree.mkdir()
        if base is not None:
            command(tree, "base", base)
        return tree

    def elsewhere(self, base: str | None) -> Filesystem:
        self._other = self._started(base)
        return OsFilesystem(self._other)

    def finish_elsewhere(self) -> Finished:
        return _finished(self._other)

    def rebase(self) -> None:
        assert self._base is not None
        command(self._tree, "base", self._base)

    def collided(self) -> list[bytes] | None:
        return None

    def reopen(self, file: OpenFile, flags: int) -> OpenFile:
        return reopened(file, flags)

    def seat(self, path: bytes) -> Seat:
        full = os.path.join(os.fsencode(self._tree), path)
        seat = Seat.of(full)
        seat.listing = lambda: Streamed(full)
        return seat

    @contextlib.contextmanager
    def cold(self) -> Iterator[Filesystem]:
        yield self.fs

    def restart(self) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        # Evicts names and nodes of all filesystems, except for open ones.
        with contextlib.suppress(OSError), open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("2")

    def gc(self) -> None:
        pass  # the daemon collects

    def left(self) -> list[bytes]:
        return []

    def counted(self) -> tuple[int, int]:
        status = show_json(self._tree, "status")
        return status["files"], status["bytes"]

    def finish(self, *, force: bool = False) -> Finished:
        return _finished(self._tree, *(["--force"] if force else []))

    def version(self, name: str) -> Filesystem:
        return OsFilesystem(self._collection / name)

    def delete(self, name: str) -> None:
        (self._collection / name).rmdir()

    def close(self) -> None:
        command(self._tree, "discard", "")


class Streamed(Listing):
    """A directory stream of the C library, which seeks by the filesystem's offsets."""

    def __init__(self, path: bytes) -> None:
        self._stream = Stream(path)

    def rewind(self) -> None:
        self._stream.rewind()

    def entries(self, offset: int) -> Iterator[Listed]:
        self._stream.seek(offset)
        while (name := self._stream.next()) is not None:
            if name not in (b".", b".."):
                yield Listed(name, Node(), Attributes(0, 0), self._stream.tell())

    def release(self) -> None:
        self._stream.close()


def _finished(tree: Path, *words: str) -> Finished:
    answer = finish(tree, " ".join(["--wait=0", *words]))
    return Finished(answer["version"], answer["unchanged"])


@dataclass(eq=False)
class Mapped:
    """A file mapped from both sides."""

    number: int
    file: Opened
    ours: mmap.mmap
    reference: mmap.mmap

    @property
    def whole(self) -> bool:
        """Whether nothing was truncated, since accessing the rest would raise SIGBUS."""
        return self.file.reference.stat().size >= len(self.reference)

    def close(self) -> None:
        self.ours.close()
        self.reference.close()
        self.file.close()


class MountedMachine(MovingMachine):
    """The machine for moving bases, with mappings of files."""

    def __init__(self, point: Path, failed: Callable[[str], None]) -> None:
        """``failed`` gets the script of each failed sequence."""
        self.maps: list[Mapped] = []
        self._recorder, self._failed = Recorder(), failed
        super().__init__(lambda _place: self._recorder.adopt(MountedWorld(point), "world"))

    def teardown(self) -> None:
        failed = sys.exc_info()[0] is not None
        try:
            super().teardown()
        except BaseException:
            failed = True
            raise
        finally:
            if failed:
                self._failed(self._recorder.script())

    def let_go(self, *, readers: bool, writers: bool = True) -> None:
        for mapped in self.maps:
            mapped.close()
        self.maps.clear()
        super().let_go(readers=readers, writers=writers)

    @precondition(lambda self: len(self.maps) < 3)
    @rule(data=st.data(), flags=st.sampled_from([os.O_RDONLY, os.O_RDWR]))
    def map(self, data: st.DataObject, flags: int) -> None:
        path = self.a_file(data, self.top)
        if os.path.isdir(self.reference.path(path)):
            return
        file = self.opened(self.top, path, flags)
        if file is None:
            return
        size = file.reference.stat().size
        if not size:
            file.close()
            return
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if file.writes else 0)
        assert isinstance(file.ours, OsFile)
        assert isinstance(file.reference, OsFile)
        ours, reference = (
            mmap.mmap(of.fileno(), size, mmap.MAP_SHARED, protection) for of in (file.ours, file.reference)
        )
        self._recorder.note(
            f"mmap.mmap({vars(file.ours)['_name']}.fileno(), {size}, 1, {protection})",
            self._map(file.number),
        )
        self.maps.append(Mapped(file.number, file, ours, reference))
        self.say(f"map file {file.number}")

    @precondition(lambda self: any(mapped.file.writes and mapped.whole for mapped in self.maps))
    @rule(data=st.data(), sync=st.booleans(), written=st.sampled_from([b"!", b"mapped"]))
    def store(self, data: st.DataObject, sync: bool, written: bytes) -> None:
        mapped = data.draw(
            st.sampled_from([mapped for mapped in self.maps if mapped.file.writes and mapped.whole])
        )
        written = written[: len(mapped.reference)]
        offset = data.draw(st.sampled_from([0, len(mapped.reference) - len(written)]))
        self.say(f"store {written!r} at {offset} of file {mapped.number}")
        where = f"{self._map(mapped.number)}[{offset}:{offset + len(written)}]"
        self._recorder.note(f"{where} = {written!r}", "_")
        for memory in (mapped.reference, mapped.ours):
            memory[offset : offset + len(written)] = written
            memory.flush()

    @precondition(lambda self: self.maps)
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        mapped = data.draw(st.sampled_from(self.maps))
        self.say(f"unmap file {mapped.number}")
        self._recorder.note(f"{self._map(mapped.number)}.close()")
        self.maps.remove(mapped)
        mapped.close()

    @staticmethod
    def _map(number: int) -> str:
        return f"map_{number}"

    def compare_files(self) -> None:
        super().compare_files()
        for mapped in self.maps:
            if mapped.whole:
                assert mapped.ours[:] == mapped.reference[:], f"mapping of file {mapped.number}"


def test_a_mounted_patch_behaves_like_a_directory(shared_mount: MountedVolume):
    failures: list[str] = []

    def failed(script: str) -> None:
        """Keeps the first failure, which may not recur, and the last one, which is the shortest."""
        del failures[1:]
        failures.append(f"{script}\n{shared_mount.log_tail()}")

    try:
        run_state_machine_as_test(
            lambda: MountedMachine(shared_mount.point, failed),  # type: ignore[arg-type]  # a factory will do
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                # Repeated requests may be answered from caches.
                phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except BaseException:
        for which, text in zip(("first", "last"), failures, strict=False):
            print(f"--- the {which} failure, as a script:\n{text}")
        raise


def test_a_recorded_sequence_runs_as_a_script(shared_mnt: Path, tmp_path: Path):
    recorder = Recorder()
    world = recorder.adopt(MountedWorld(shared_mnt), "world")
    with world.fs.open(b"file", os.O_RDWR | os.O_CREAT) as file:
        file.pwrite(b"x" * 100, 5)
    world.finish()
    world.start("latest")
    world.fs.link(b"file", b"again")
    with pytest.raises(FileNotFoundError):
        world.fs.unlink(b"none")
    world.fs.utimens(b"file", When.OMIT, When.NOW)
    seat = world.seat(b"")
    seat.fs.mkdir(b"dir")
    seat.leave()
    assert len(look(world.fs)) == 4
    world.finish()
    script = recorder.script()
    (tmp_path / "script.py").write_text(script)
    before = set(os.listdir(shared_mnt))
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", shared_mnt],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stderr}\n{script}"
    (made,) = set(os.listdir(shared_mnt)) - before
    assert "# ENOENT" in script
    assert script.count("look(") == 1
    assert (shared_mnt / made / "v0" / "file").read_bytes() == bytes(5) + b"x" * 100
    assert sorted(os.listdir(shared_mnt / made / "v1")) == ["again", "dir", "file"]
