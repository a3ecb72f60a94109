"""What a mount needs of the machine and of the mountpoint, and what to do if it is missing.

Knows of pyfuse3 only whether it can be imported. Blocks; any thread may call it.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from artfs.errors import MountError
from artfs.fuse.handshake import DEVICE, HELPER
from artfs.linux import dead_mounts, mountinfo, procfs
from artfs.printing import printable

FUSE_CONF = "/etc/fuse.conf"
_CAP_SYS_ADMIN = 21  # linux/capability.h


def check_machine(*, allow_other: bool) -> None:
    """Checks that this user can mount on this machine.

    Raises:
        MountError: something is missing; the text says what to install, load or write.
    """
    _check_import()
    if not os.path.exists(DEVICE):
        raise MountError(
            f"{DEVICE} is missing: load the fuse module ('modprobe fuse'),"
            f" or start the container with '--device {DEVICE}'"
        )
    if not _may_mount():
        raise MountError(
            "no process may mount here, not even root's: start the container with"
            f" '--cap-add SYS_ADMIN --device {DEVICE}', or mount on the host and bind the mount into it"
        )
    if os.geteuid() == 0:
        return
    if shutil.which(HELPER) is None:
        raise MountError(f"an ordinary user can't mount without {HELPER}: install the package fuse3")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise MountError(f"{DEVICE} can't be opened by ordinary users here: 'chmod 666 {DEVICE}' as root")
    if allow_other and not _user_allow_other():
        raise MountError(
            f"--allow-other is refused to ordinary users here: put a line 'user_allow_other' into {FUSE_CONF}"
        )


def prepare_mountpoint(volume: Path, mountpoint: Path) -> Path:
    """Checks that a volume can be mounted at a directory, and detaches a dead mount there.

    Returns the directory's absolute path without symlinks.

    Raises:
        MountError: it can't; the text says why.
    """
    point = mountinfo.resolve(mountpoint)
    shown = printable(os.fsencode(point))
    dead_mounts.clear(point)
    try:
        status = os.stat(point)
        names = os.listdir(point) if stat.S_ISDIR(status.st_mode) else []
    except FileNotFoundError:
        raise MountError(f"{shown} does not exist: create the directory first") from None
    except OSError as error:
        raise MountError(f"{shown} can't be used: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise MountError(f"{shown} is not a directory: give an empty one to mount on")
    _check_free(point, shown)
    store = Path(os.path.realpath(volume))
    if store.is_relative_to(point) or point.is_relative_to(store):
        raise MountError(
            f"cannot mount {printable(os.fsencode(store))} at {shown}: one is inside the other;"
            " give a directory outside of the volume"
        )
    if names:
        raise MountError(f"{shown} is not empty: give an empty directory to mount on")
    return point


def _check_import() -> None:
    try:
        import pyfuse3  # noqa: F401
    except ModuleNotFoundError as error:
        raise MountError(
            f"the Python module {error.name} is missing: 'pip install pyfuse3', which needs a C compiler,"
            " pkg-config and the headers of libfuse 3 (package libfuse3-dev or fuse3-devel)"
        ) from error
    except ImportError as error:
        raise MountError(
            f"pyfuse3 can't be loaded ({error}):"
            " install the library of FUSE 3 (package libfuse3-3 or fuse3-libs)"
        ) from error


def _may_mount() -> bool:
    """Tells whether this process, or a setuid helper, can have the capability to mount."""
    bounding = procfs.status(os.getpid()).get("CapBnd")
    return bounding is None or bool(int(bounding, 16) >> _CAP_SYS_ADMIN & 1)


def _user_allow_other() -> bool:
    try:
        lines = Path(FUSE_CONF).read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def _check_free(point: Path, shown: str) -> None:
    """Checks that no FUSE mount would be covered. One of another kind may be, as a container's bind mount."""
    mount = mountinfo.at(point)
    if mount is None:
        return
    if mount.is_artfs:
        source = printable(os.fsencode(mount.source))
        raise MountError(f"{shown} is in use: the volume {source} is mounted there; 'artfs umount' it first")
    if mount.type.startswith("fuse"):
        raise MountError(f"{shown} is in use by a mount of type {mount.type}: unmount that first")
