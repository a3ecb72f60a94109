"""Helpers of the tests of the catalog: a volume's directories, records, other processes, crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artfs.catalog.catalog import Catalog
from artfs.catalog.collection import Collection
from artfs.catalog.records import VersionRecord
from artfs.model.digest import Algorithm, content_digest, tree_id
from artfs.model.entry import DirEntry
from artfs.store import durable
from artfs.store.owners import Owner

if TYPE_CHECKING:  # The other processes start sooner without it.
    import pytest

GOLDEN = Path(__file__).parent / "golden"

#: A process, as golden files have it.
OWNER = Owner(
    pid=7,
    host="h",
    started_at="2024-02-29T00:00:00.000000Z",
    boot="b",
    ticks=8,
    machine="m",
    space="pid:[1] time:[2]",
)


def root_entry(content: str = "tree") -> DirEntry:
    return DirEntry(
        name=b"",
        mode=0o1750,
        uid=1000,
        gid=100,
        mtime_ns=1_700_000_000_123_456_789,
        tree=tree_id(Algorithm.XXH128, content.encode()),
        content=content_digest(Algorithm.XXH128, content.encode()),
        entries=5,
        files=3,
        bytes=4096,
        reach=0o550,
        xattrs=((b"user.a", b"\0\xff"),),
    )


def version(number: int, **changes: Any) -> VersionRecord:
    given: dict[str, Any] = {
        "number": number,
        "serial": number + 1,
        "root": root_entry(f"tree {number}"),
        "distributed_id": b"job-%d" % number,
        "seal": f"seal-{number}",
        "created_by": "ada",
    }
    return VersionRecord.make(**{**given, **changes})


def commit(collection: Collection, **changes: Any) -> VersionRecord:
    record = version(collection.next_number(), **changes)
    assert collection.commit(record)
    collection.complete(record)
    return record


class Volume:
    """The part of a volume that the catalog uses; a second `open` acts as another process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "collections").mkdir()
        (path / "runs").mkdir()
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.catalogs: list[Catalog] = []

    def open(self) -> Catalog:
        self.catalogs.append(Catalog(self.fd))
        return self.catalogs[-1]

    def close(self) -> None:
        for catalog in self.catalogs:
            catalog.close()
        os.close(self.fd)

    def files(self, name: str) -> Path:
        return self.path / "collections" / name


_PREAMBLE = """
import json, os, sys
from artfs import errors
from artfs.catalog.catalog import Catalog
from artfs.catalog.runs import RunCatalog
from tests.unit.catalogs import version
me = int(sys.argv[2])
root_fd = os.open(sys.argv[1], os.O_RDONLY)
catalog = Catalog(root_fd)
print("ready", flush=True)
sys.stdin.readline()
"""


def in_processes(path: Path, script: str, count: int = 4) -> list[Any]:
    """Runs a script in several processes at once; returns the JSON that each prints."""
    command = [sys.executable, "-c", _PREAMBLE + script, str(path)]
    processes = [
        subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=60)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * count
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return [json.loads(output) for output in outputs]


class Crash(BaseException):
    """The end of the process, after which nothing cleans up."""


def crash_at(monkeypatch: pytest.MonkeyPatch, nth: int) -> list[str]:
    """Ends the process at the nth durable step (from 0); returns the list of steps reached."""
    reached: list[str] = []

    def step(label: str) -> None:
        reached.append(label)
        if len(reached) == nth + 1:
            raise Crash(label)

    monkeypatch.setattr(durable, "step", step)
    return reached


def crashes(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> Iterator[list[str]]:
    """Repeats an action, with a crash at its first step, its second, and so on, until it ends without one.

    Yields the steps that were reached after each crash, and the caller restores the state.
    """
    for nth in range(100):
        with monkeypatch.context() as patch:
            steps = crash_at(patch, nth)
            try:
                action()
            except Crash:
                pass
            else:
                return
        yield steps
    raise AssertionError("it has more than 100 steps")
