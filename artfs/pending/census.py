"""Counts what is in a pending tree, while others may be changing it. Blocking; any thread."""

from __future__ import annotations

import stat

from artfs.pending.walk import directories


def count(root_fd: int) -> tuple[int, int]:
    """Returns the number of regular files below a directory and the sum of their sizes in bytes."""
    files = size = 0
    for _, entries in directories(root_fd):
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone since it was listed
            if stat.S_ISREG(status.st_mode):
                files, size = files + 1, size + status.st_size
    return files, size
