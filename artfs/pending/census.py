"""Counts what is in a pending tree, while others may be changing it. Blocking; any thread."""

from __future__ import annotations

import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def count(root_fd: int) -> tuple[int, int]:
    """Returns the number of regular files below a directory and the sum of their sizes in bytes."""
    files = size = 0
    pending = [os.open(b".", _DIRECTORY, dir_fd=root_fd)]
    try:
        while pending:
            directory = pending.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        try:
                            status = entry.stat(follow_symlinks=False)
                            if stat.S_ISDIR(status.st_mode):
                                pending.append(os.open(entry.name, _DIRECTORY, dir_fd=directory))
                        except OSError:
                            continue  # gone since it was listed
                        if stat.S_ISREG(status.st_mode):
                            files, size = files + 1, size + status.st_size
            finally:
                os.close(directory)
    finally:
        for directory in pending:
            os.close(directory)
    return files, size
