"""`status` of the volume, a pending version and a version: one JSON object."""

from __future__ import annotations

import os
import time

from artfs.pending.pending_tree import PendingTree
from artfs.vfs.control.control_file import ControlFile, line
from artfs.vfs.control.subject import PendingSubject, VersionSubject, VolumeSubject, sees_all
from artfs.vfs.node import Attributes, Caller
from artfs.vfs.permissions import LIST, granted
from artfs.volume.status import describe, describe_pending

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CLOSED = "(closed)"  # instead of a path that the reader could not list


class VolumeStatusFile(ControlFile[VolumeSubject]):
    name = "status"

    def read(self, subject: VolumeSubject) -> str:
        view = subject.view
        mount = {
            "pid": os.getpid(),
            "uptime": round(time.time() - view.started, 3),
            "supervised": view.supervised(),
            "restarts": view.restarts,
            "write_cache": view.write_cache,
            "read_only": view.read_only,
            "references": sorted(view.volume.references.schemes),
        }
        return line(describe(view.volume) | mount)


class PendingStatusFile(ControlFile[PendingSubject]):
    name = "status"

    def read_for(self, subject: PendingSubject, caller: Caller) -> str:
        volume, tree = subject.view.volume, subject.tree
        status = describe_pending(volume, tree)
        for writer in status.get("open_for_write", ()):
            if not _may_find(tree, os.fsencode(writer["path"]), caller):
                writer["path"] = _CLOSED
        failed = volume.references.failures(tree.label)
        if failed and sees_all(subject, volume.references_in(tree)[1], caller):
            status["reference_errors"] = failed
        return line(status)


def _may_find(tree: PendingTree, path: bytes, caller: Caller) -> bool:
    """Tells whether a caller can list every directory from the root to a file.

    Also False if one of them was moved meanwhile.
    """
    way = path.split(b"/")[:-1]
    if caller.uid == 0 or not way:
        return True
    try:
        at = tree.open_root()
    except FileNotFoundError:
        return False
    try:
        for name in way:
            below = os.open(name, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
            directory = Attributes.of(0, os.fstat(at))
            if not granted(directory.mode, directory, caller, LIST):
                return False
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    finally:
        os.close(at)


class UpdatedAtFile(ControlFile[VersionSubject]):
    """When the tags, the description, the metadata, the ttl or `used_by` of a version last changed."""

    name = "updated_at"

    def read(self, subject: VersionSubject) -> str:
        updated = subject.collection.labels(subject.record.number).updated_at
        return f"{updated or subject.record.created_at}\n"


class VersionStatusFile(ControlFile[VersionSubject]):
    name = "status"

    def read_for(self, subject: VersionSubject, caller: Caller) -> str:
        status = subject.collection.describe(subject.record.number)
        failed = subject.view.volume.references.failures(
            f"{subject.collection.name}:{subject.record.version}"
        )
        if failed and sees_all(subject, subject.record.root.entry().reach, caller):
            status["reference_errors"] = failed
        return line(status)
