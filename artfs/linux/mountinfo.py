"""The mount table: which mounts there are, and how to detach one.

Any thread may call it. Nothing here asks a mounted filesystem, so nothing here hangs when its daemon does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

FILESYSTEM_TYPE = "fuse.artfs"

_TABLE = "/proc/self/mountinfo"
_ESCAPE = re.compile(rb"\\([0-7]{3})")

# linux/mount.h
_MNT_FORCE, _MNT_DETACH, _UMOUNT_NOFOLLOW = 1, 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of the table. ``id`` is unique while the mount exists; ``device`` names the filesystem.

    ``parent`` is the id of the mount that the mountpoint is in, ``options`` are those of the filesystem.
    """

    id: int
    device: tuple[int, int]
    point: Path
    type: str
    source: str
    parent: int = field(default=0, compare=False)
    options: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def is_artfs(self) -> bool:
        return self.type == FILESYSTEM_TYPE


def table() -> list[Mount]:
    """Returns all mounts of this process's namespace, a covered one before the one that covers it.

    The kernel lists them in the order in which they were made: another one if a mount was moved over a
    younger one.
    """
    with open(_TABLE, "rb") as file:
        found = [_parse(line) for line in file]
    by_id = {mount.id: mount for mount in found}
    heights: dict[int, int] = {}

    def height(mount: Mount) -> int:
        way = []
        while mount.id not in heights and (below := by_id.get(mount.parent)) not in (None, mount):
            way.append(mount.id)
            mount = below
        known = heights.setdefault(mount.id, 0)
        for number, id_ in enumerate(reversed(way), 1):
            heights[id_] = known + number
        return known + len(way)

    return sorted(found, key=height)


def stack(point: Path) -> list[Mount]:
    """Returns all mounts at exactly this resolved path, the topmost last."""
    return [mount for mount in table() if mount.point == point]


def at(point: Path) -> Mount | None:
    """Returns the topmost mount at exactly this resolved path."""
    return next(reversed(stack(point)), None)


def artfs_at(point: Path, source: str | None = None) -> Mount | None:
    """Returns the topmost mount at exactly this resolved path if it is artfs's, and of this source if one is
    given."""
    mount = at(point)
    return mount if mount is not None and mount.is_artfs and source in (None, mount.source) else None


def containing(path: Path) -> Mount | None:
    """Returns the mount that a resolved path is in."""
    found = None
    for mount in table():
        if path.is_relative_to(mount.point) and (
            found is None or len(mount.point.parts) >= len(found.point.parts)
        ):
            found = mount
    return found


def resolve(path: str | os.PathLike[str]) -> Path:
    """Returns an absolute path without symlinks, without asking a mount at the path itself."""
    absolute = Path(os.path.abspath(path))
    candidate = Path(os.path.realpath(absolute.parent)) / absolute.name
    return candidate if at(candidate) else Path(os.path.realpath(absolute))


def mount_id(fd: int) -> int:
    """Returns the id of the mount that an open file is on; -1 if that is not known."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as lines:
        return next((int(line[7:]) for line in lines if line.startswith(b"mnt_id:")), -1)


def detach(point: Path, *, force: bool = False) -> None:
    """Detaches the topmost mount at ``point``, also if it is in use or its daemon is dead.

    With ``force`` requests that wait for an answer fail now (root only; for others it is a plain detach).

    Raises:
        OSError: there is no mount, or this user may not detach it.
    """
    flags = _MNT_DETACH | _UMOUNT_NOFOLLOW | (_MNT_FORCE if force else 0)
    if _libc.umount2(os.fsencode(point), flags) == 0:
        return
    error = ctypes.get_errno()
    import shutil  # late, since every command imports this module
    import subprocess

    helper = shutil.which("fusermount3")
    if os.geteuid() == 0 or helper is None:
        raise OSError(error, os.strerror(error), str(point))
    result = subprocess.run(
        [helper, "-u", "-z", "--", os.fspath(point)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if result.returncode != 0:
        raise OSError(error, last_line(result.stderr) or os.strerror(error), str(point))


def abort(device: tuple[int, int]) -> bool:
    """Aborts a FUSE connection of any process; False if its control filesystem can't be written."""
    try:
        Path(f"/sys/fs/fuse/connections/{device[1]}/abort").write_bytes(b"1")
    except OSError:
        return False
    return True


def abort_only(mount: Mount) -> bool:
    """Aborts the connection of a mount, the topmost one at its path, and leaves the mount there, dead.

    Returns False if this user may not.
    """
    if abort(mount.device):
        return True
    # umount2(2) by force aborts it first, and then finds the mount in use, here. O_PATH asks no daemon.
    try:
        held = os.open(mount.point, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        result = _libc.umount2(os.fsencode(mount.point), _MNT_FORCE | _UMOUNT_NOFOLLOW)
        return result != 0 and ctypes.get_errno() == errno.EBUSY
    finally:
        os.close(held)


def last_line(output: bytes) -> str:
    """Returns the last line that a helper program wrote."""
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _parse(line: bytes) -> Mount:
    # proc_pid_mountinfo(5): id parent major:minor root point options [optional...] - type source options
    before, _, after = line.partition(b" - ")
    fields, rest = before.split(b" "), after.split(b" ")
    major, _, minor = fields[2].partition(b":")
    return Mount(
        id=int(fields[0]),
        device=(int(major), int(minor)),
        point=Path(_text(fields[4])),
        type=_text(rest[0]),
        source=_text(rest[1]),
        parent=int(fields[1]),
        options=frozenset(_text(rest[2]).strip().split(",")),
    )


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))
