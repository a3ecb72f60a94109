"""Removes whole trees of any depth and any modes.

Owns: how ``trash/`` is emptied. Must not know what the trees were. Any thread may call it, also several
threads and processes at once for one tree. Nothing here is durable: the next sweep removes what reappears
after a crash.

Each directory is moved to the top of the trash before it is emptied. So trees of any depth need no more than
two descriptors, and no path and no stack gets too long.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from artfs.store import durable


def empty_trash(trash_fd: int, *, dry_run: bool = False) -> int:
    """Removes all that is in the trash; returns how many names were at its top.

    What can't be removed (an immutable file, a mount point) stays.
    """
    names = [os.fsencode(name) for name in durable.names(trash_fd)]
    if not dry_run:
        for name in names:
            with contextlib.suppress(OSError):
                remove_tree(trash_fd, name)
    return len(names)


def remove_tree(trash_fd: int, name: bytes) -> None:
    """Removes one file or tree at the top of the trash.

    Raises OSError if something can't be removed, after it has removed everything else.
    """
    todo, failed = [name], None
    while todo:
        top = todo.pop()
        try:
            if not _is_directory(trash_fd, top):
                os.unlink(top, dir_fd=trash_fd)
                continue
            _make_writable(trash_fd, top)
            with durable.directory(trash_fd, top) as fd:
                for text in os.listdir(fd):
                    try:
                        if moved := _unlink_or_move(fd, os.fsencode(text), trash_fd):
                            todo.append(moved)
                    except FileNotFoundError:
                        pass
                    except OSError as error:
                        failed = error
            os.rmdir(top, dir_fd=trash_fd)
        except FileNotFoundError:  # another caller removes the same tree
            pass
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _unlink_or_move(fd: int, name: bytes, trash_fd: int) -> bytes | None:
    if not _is_directory(fd, name):
        os.unlink(name, dir_fd=fd)
        return None
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=fd)
        return None
    _make_writable(fd, name)  # rename(2) needs that for a directory that changes its parent
    moved = durable.temp_name()
    os.rename(name, moved, src_dir_fd=fd, dst_dir_fd=trash_fd)
    return moved


def _make_writable(dir_fd: int, name: bytes) -> None:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
    with durable.closing(os.open(name, flags, dir_fd=dir_fd)) as fd:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{fd}", mode | stat.S_IRWXU)


def _is_directory(dir_fd: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)


def sweep_temps(
    dir_fd: int,
    *,
    any_age: bool = False,
    dry_run: bool = False,
    directories: bool = True,
    keep: Callable[[bytes], bool] = lambda _name: False,
) -> int:
    """Removes the stale temps from one directory; returns how many there were.

    ``any_age``: also young ones, for a caller whose lock excludes every writer of this directory. Without
    ``directories``, only temps that are files or symlinks; directories for which ``keep`` returns True stay.
    Not durable: the next sweep removes what reappears after a crash.
    """
    count = 0
    for text in durable.names(dir_fd):
        name = os.fsencode(text)
        with contextlib.suppress(OSError):
            if not name.startswith(durable.TEMP_PREFIX):
                continue
            status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) and (not directories or keep(name)):
                continue
            if any_age or durable.is_stale_temp(name, status.st_ctime):
                count += 1
                if not dry_run:
                    remove_tree(dir_fd, name)
    return count
