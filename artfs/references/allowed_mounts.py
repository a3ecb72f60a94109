"""The mounts that references may read from.

Owns: which filesystems are refused. Must not know paths and URIs. Any thread. It reads procfs only, never the
filesystem in question: the daemon must not wait for its own mount, nor for a dead or hostile server.
"""

from __future__ import annotations

import os

# The type of a mount of artfs in mountinfo (artfs/fuse/handshake.py).
_ARTFS = b"fuse.artfs"
# Their files give root more than their mode allows others, or opening one has an effect.
_PSEUDO = frozenset(
    b"proc sysfs cgroup cgroup2 securityfs debugfs tracefs configfs pstore bpf efivarfs selinuxfs devpts"
    b" devtmpfs mqueue binfmt_misc nsfs rpc_pipefs fusectl autofs hugetlbfs".split()
)


class AllowedMounts:
    """The mounts that one call meets. Not to be kept: ids of mounts are reused."""

    def __init__(self, *, world_readable_only: bool) -> None:
        self._world_readable_only = world_readable_only
        self._refusals: dict[bytes, str | None] = {}

    def refusal(self, fd: int) -> str | None:
        """Returns why nothing may be read on the mount of ``fd`` (which may be O_PATH), or None.

        Mounts of artfs are refused: a reference that leads back into the mount that serves it would wait for
        itself, and each round takes a thread. With ``world_readable_only`` so are pseudo filesystems, and
        FUSE mounts of users other than root, whose server may report any modes, and may never answer.
        """
        mount = _mount_of(fd)
        if mount not in self._refusals:
            self._refusals = self._look()
        return self._refusals.get(mount, "its mount is unknown")

    def _look(self) -> dict[bytes, str | None]:
        refusals = {}
        for line in _read(b"/proc/self/mountinfo").splitlines():
            before, _, after = line.partition(b" - ")
            kind, _, options = after.split(b" ", 2)
            refusals[before.split(b" ", 1)[0]] = self._judge(kind, options.split(b","))
        return refusals

    def _judge(self, kind: bytes, options: list[bytes]) -> str | None:
        if kind == _ARTFS:
            return "it is on a mount of artfs; artfs://COLLECTION:VERSION/PATH refers to a version"
        if not self._world_readable_only:
            return None
        if kind in _PSEUDO:
            return f"it is on {kind.decode()}, which does not store files"
        if kind.split(b".")[0] in (b"fuse", b"fuseblk") and b"user_id=0" not in options:
            return "it is on a FUSE mount that another user than root made"
        return None


def _mount_of(fd: int) -> bytes:
    for line in _read(b"/proc/self/fdinfo/%d" % fd).splitlines():
        if line.startswith(b"mnt_id:"):
            return line[7:].strip()
    return b""


def _read(path: bytes) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open(fd, "rb", buffering=0, closefd=False) as file:
            return file.readall()
    finally:
        os.close(fd)
