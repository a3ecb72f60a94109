"""Which mounts bytes may be taken from.

Owns: the reading of mountinfo, and the filesystems that are refused. Must not know paths and URIs. Any
thread. It asks procfs only, never the filesystem in question: the daemon must not wait for an answer of its
own mount, and a server that is dead or hostile must not be woken.
"""

from __future__ import annotations

import os

# What a mount of artfs calls itself in mountinfo (artfs/fuse/handshake.py).
_ARTFS = b"fuse.artfs"
# Their files show more to root than their mode says, or do something when they are opened.
_PSEUDO = frozenset(
    b"proc sysfs cgroup cgroup2 securityfs debugfs tracefs configfs pstore bpf efivarfs selinuxfs devpts"
    b" devtmpfs mqueue binfmt_misc nsfs rpc_pipefs fusectl autofs hugetlbfs".split()
)


class AllowedMounts:
    """The mounts that one call meets. Not to be kept: ids of mounts are used again."""

    def __init__(self, *, world_readable_only: bool) -> None:
        self._careful = world_readable_only
        self._refusals: dict[bytes, str | None] = {}

    def refusal(self, fd: int) -> str | None:
        """Tells why nothing may be read on the mount that holds ``fd`` (it may be O_PATH); None if it may.

        Refused are mounts of artfs: a reference that leads back into the mount that serves it would wait
        for itself, round by round until no thread is left. A careful caller's also: pseudo filesystems, and
        FUSE mounts of others than root, whose server may say of modes what it likes, and never answer.
        """
        mount = _mount_of(fd)
        if mount not in self._refusals:
            self._refusals = self._look()
        return self._refusals.get(mount, "the mount it is on can't be told")

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
        if not self._careful:
            return None
        if kind in _PSEUDO:
            return f"it is on {kind.decode()}, whose files are not kept ones"
        if kind.split(b".")[0] in (b"fuse", b"fuseblk") and b"user_id=0" not in options:
            return "it is on a FUSE mount that is not root's"
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
