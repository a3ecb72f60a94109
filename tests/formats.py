"""A volume of format 1, as artfs made it before format 2, with patches that are pending in it."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

GOLDEN = Path(__file__).parent / "unit" / "golden" / "format-1.tar.xz"

#: What the patch ``model/patch`` of ``v0`` shows: kind, permissions, and content or target.
PATCH = {
    "dir": ("d", 0o755, ""),
    "dir/changed": ("-", 0o644, "CHANGED\n"),
    "dir/deep": ("d", 0o755, ""),
    "dir/escaped": ("l", 0o777, ".artfs-lower"),
    "dir/mode": ("-", 0o600, "mode\n"),
    "kept": ("-", 0o644, "kept\n"),
    "link": ("l", 0o777, "dir/changed"),
    "many": ("d", 0o755, ""),
    "many/other": ("-", 0o644, "other\n"),
    "moved-here": ("-", 0o644, "moved\n"),
    "new": ("d", 0o755, ""),
    "new/file": ("-", 0o644, "new\n"),
}
#: Its times that were given, in seconds.
TIMES = {"dir": 1_100_000_000, "dir/mode": 1_000_000_000, "moved-here": 1_000_000_000, "kept": 1_000_000_000}


def format_1(path: Path) -> Path:
    """Unpacks the volume, as one of this user's."""
    path.mkdir(mode=0o700)
    with tarfile.open(GOLDEN) as archive:
        members = archive.getmembers()
        for member in members:
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        archive.extractall(path, members)
    for member in members:
        if member.issym():  # whose times tarfile leaves
            os.utime(path / member.name, (member.mtime, member.mtime), follow_symlinks=False)
    return path


def shown(tree: Path) -> dict[str, tuple[str, int, str]]:
    """What a tree on a mount shows, in the manner of :data:`PATCH`."""
    found = {}
    for directory, directories, files in os.walk(tree):
        for name in (*directories, *files):
            path = Path(directory, name)
            mode = path.lstat().st_mode
            kind = stat.filemode(mode)[0]
            content = os.readlink(path) if kind == "l" else path.read_text() if kind == "-" else ""
            found[str(path.relative_to(tree))] = kind, stat.S_IMODE(mode), content
    return found
