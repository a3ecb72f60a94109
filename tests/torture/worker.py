"""A process of the kill torture: executes operations one by one, and logs each answer.

A line is logged before an operation, and another with its answer before the next one. Both are single
write(2)s to an append-only file outside the volume, so the log is right after a SIGKILL at any instant.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from artfs.client.interface import Client
from artfs.client.open import open_client
from artfs.client.transfer.sources import Sources
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy
from artfs.errors import ArtfsError
from artfs.fuse.errnos import errno_of
from tests.mount.control import ask, command
from tests.torture.choice import Chooser
from tests.torture.model import Mine, Op, apply, bytes_of

TEAM = "team"
#: The errors of calls to a dead daemon. A page of a mapping that cannot be read is EIO, or SIGBUS.
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
#: The errors of those who fill a tree when another process finishes it.
LATE = (errno.ENOENT, errno.EROFS, errno.EBUSY, errno.ESTALE, errno.EEXIST)


class Log:
    """The log of one process, in one round."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def say(self, kind: str, **more: Any) -> None:
        os.write(self._fd, json.dumps({"kind": kind, "at": time.monotonic(), **more}).encode() + b"\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]  # the last line may be incomplete


def newest_id(names: Iterable[str]) -> str | None:
    return max(names, key=lambda name: int(name.rpartition("-")[2]), default=None)


class OnMount:
    """Operations by system calls on a mount."""

    def __init__(self, mine: Mine, point: Path) -> None:
        self._own, self._team, self._mine = point / mine.own.name, point / TEAM, mine

    def team_id(self) -> str | None:
        return newest_id(os.listdir(self._team / "pending"))

    def do(self, op: Op) -> Op:
        """Executes it; returns its answer beyond success."""
        collection = self._team if op["where"] == "team" else self._own
        do, tree = op["do"], collection / "pending" / op.get("id", "")
        if do == "start":
            tree.mkdir()
        elif do == "base":
            command(tree, "base", op["version"])
        elif do == "finish" and op["where"] == "team":
            return dict(json.loads(ask(tree, "finish", "--wait=1")))
        elif do == "finish":
            words = [*op["aliases"], *(["--force"] if op["force"] else [])]
            return dict(json.loads(ask(tree, "finish", " ".join(words))))
        elif do == "again":
            command(tree, "finish", op["alias"])
        elif do == "discard":
            command(tree, "discard", "")
        elif do == "alias":
            command(collection / op["version"], "finish", op["alias"])
        elif do == "unalias":
            (collection / op["alias"]).unlink()
        elif do == "tag":
            command(collection / op["version"], "tags", " ".join(op["tags"]))
        elif do == "delete":
            (collection / op["version"]).rmdir()
        elif do == "part":
            (tree / f"w{self._mine.number}").mkdir()
        else:
            root = tree / f"w{self._mine.number}" if op["where"] == "team" else tree
            return _system_call(op, root / op["path"], root)
        return {}


def _system_call(op: Op, path: Path, root: Path) -> Op:
    do = op["do"]
    if do == "create":
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    elif do in ("write", "append"):
        fd = os.open(path, os.O_WRONLY | (os.O_APPEND if do == "append" else 0))
        try:
            data = bytes_of(op["seed"], op["size"])
            return {"wrote": os.write(fd, data) if do == "append" else os.pwrite(fd, data, op["offset"])}
        finally:
            os.close(fd)
    elif do == "store":
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[op["offset"] : op["offset"] + op["size"]] = bytes_of(op["seed"], op["size"])
            mapped.flush()
    elif do == "truncate":
        os.truncate(path, op["size"])
    elif do == "chmod":
        path.chmod(op["mode"])
    elif do == "xattr":
        os.setxattr(path, op["name"], op["value"].encode())
    elif do == "fsync":
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    elif do == "mkdir":
        path.mkdir()
    elif do == "unlink":
        path.unlink()
    elif do == "rmdir":
        path.rmdir()
    elif do == "symlink":
        path.symlink_to(op["target"])
    elif do == "link":
        os.link(path, root / op["to"])
    else:
        assert do == "rename", do
        path.rename(root / op["to"])
    return {}


class Directly:
    """Operations as the SDK and the command line make them on an unmounted volume."""

    def __init__(self, mine: Mine, volume: Path, scratch: Path) -> None:
        self._mine, self._volume, self._scratch = mine, volume, scratch
        self._access: Client = open_client(volume)

    def team_id(self) -> str | None:
        return newest_id(map(os.fsdecode, self._access.pending_names(TEAM)))

    def do(self, op: Op) -> Op:
        access, name, do = self._access, TEAM if op["where"] == "team" else self._mine.own.name, op["do"]
        pending = op.get("id", "").encode()
        if do == "start":
            access.new(name, pending)
        elif do == "put":
            self._put(op, name, pending)
        elif do == "finish" and op["where"] == "team":
            return access.finish(name, pending, wait=1)
        elif do == "finish":
            if op["force"]:  # means "in a process of its own" here
                self._command("finish", f"{name}/{op['id']}", *op["aliases"])
                return {}
            return access.finish(name, pending, op["aliases"])
        elif do == "again":
            access.finish(name, pending, [op["alias"]])
        elif do == "discard":
            access.discard(name, pending)
        elif do == "alias":
            access.alias(name, op["version"], [op["alias"]])
        elif do == "unalias":
            access.unalias(name, [op["alias"]])
        elif do == "tag":
            access.relabel(name, op["version"], {"tags": op["tags"]})
        elif do == "delete":
            access.remove(name, op["version"])
        else:
            assert do == "gc", do
            with access.volume() as volume:
                volume.maintenance.gc()
        return {}

    def _put(self, op: Op, name: str, pending: bytes) -> None:
        at = [f"w{self._mine.number}".encode()] if op["where"] == "team" else []
        self._scratch.mkdir(exist_ok=True)
        with self._access.open_tree(name, pending) as tree:
            for path, (seed, size) in op["files"].items():
                staged = self._scratch / "file"
                staged.write_bytes(bytes_of(seed, size))
                staged.chmod(0o644)
                sources = Sources([os.fsencode(staged)], at=[*at, *os.fsencode(path).split(b"/")])
                sources.check(self._access.is_volume)
                sources.copy(TreeWriter(tree, WritePolicy(replace=True)))

    def _command(self, *arguments: str) -> None:
        line = [sys.executable, "-m", "artfs", "--volume", str(self._volume), *arguments]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise AssertionError(f"{line}: {done.stderr}")


def work(mine: Mine, seed: str, log: Log, hands: OnMount | Directly, *, mounted: bool) -> None:
    """Works until the process or the daemon is killed."""
    chooser = Chooser(seed, mine, mounted=mounted)
    while True:
        op: Op = {}
        try:
            team_id = hands.team_id()
            op = chooser.next(team_id)
            log.say("try", op=op)
            answer = hands.do(op)
            if answer.get("wrote", op.get("size")) != op.get("size"):
                # The kernel split the write, and the daemon died between the parts.
                log.say("short", wrote=answer["wrote"])
                return
            op |= {key: value for key, value in answer.items() if key == "version"}
        except (OSError, ArtfsError) as error:
            code = errno_of(error) or errno.EIO
            if code in DEAD or (op.get("do") == "store" and code == errno.EIO):
                log.say("dead", errno=errno.errorcode[code])
                return
            log.say("no", errno=errno.errorcode[code], why=str(error))
            if op.get("where", "team") != "team" or code not in LATE:
                return
        else:
            log.say("yes", op=op)
            apply(mine, op)
