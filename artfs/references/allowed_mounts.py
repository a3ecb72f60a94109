"""The mounts that references may read from.

Owns: which filesystems are refused. Must not know paths and URIs. Any thread. It reads procfs only, never the
filesystem in question: the daemon must not wait for its own mount, nor for a dead or hostile server.
"""

from __future__ import annotations

from artfs.linux import mountinfo
from artfs.linux.mountinfo import Mount

# Their files give root more than their mode allows others, or opening one has an effect.
_PSEUDO = frozenset((
    "proc", "sysfs", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "configfs", "pstore", "bpf",
    "efivarfs", "selinuxfs", "devpts", "devtmpfs", "mqueue", "binfmt_misc", "nsfs", "rpc_pipefs", "fusectl",
    "autofs", "hugetlbfs",
))  # fmt: skip


class AllowedMounts:
    """The mounts that one call meets. Not to be kept: ids of mounts are reused."""

    def __init__(self, *, world_readable_only: bool) -> None:
        self._world_readable_only = world_readable_only
        self._refusals: dict[int, str | None] = {}

    def refusal(self, fd: int) -> str | None:
        """Returns why nothing may be read on the mount of ``fd`` (which may be O_PATH), or None.

        Mounts of artfs are refused: a reference that leads back into the mount that serves it would wait for
        itself, and each round takes a thread. With ``world_readable_only`` so are pseudo filesystems, and
        FUSE mounts of users other than root, whose server may report any modes, and may never answer.
        """
        mount = mountinfo.mount_id(fd)
        if mount not in self._refusals:
            self._refusals = {found.id: self._judge(found) for found in mountinfo.table()}
        return self._refusals.get(mount, "its mount is unknown")

    def _judge(self, mount: Mount) -> str | None:
        if mount.is_artfs:
            return "it is on a mount of artfs; artfs://COLLECTION:VERSION/PATH refers to a version"
        if not self._world_readable_only:
            return None
        if mount.type in _PSEUDO:
            return f"it is on {mount.type}, which does not store files"
        if mount.type.split(".")[0] in ("fuse", "fuseblk") and "user_id=0" not in mount.options:
            return "it is on a FUSE mount that another user than root made"
        return None
