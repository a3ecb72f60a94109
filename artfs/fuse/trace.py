"""Records each request of the kernel and its answer, to find out what went wrong.

``ARTFS_TRACE=FILE`` in the daemon's environment turns it on. FILE has a line for each request when it is
answered, and for each notification; FILE.1 has the lines before, and older ones are dropped. The lines have
names, but no bytes of files. The trace wraps the operations: a mount without it pays nothing.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
from collections.abc import Awaitable, Callable
from logging.handlers import RotatingFileHandler
from typing import Any

import pyfuse3

from artfs.fuse.invalidation import Notifier

VARIABLE = "ARTFS_TRACE"

_MOST = 16 << 20  # bytes of each of the two files
_SHOWN = 80  # bytes of a name or value


def trace_if_asked(operations: pyfuse3.Operations, notifier: Notifier) -> None:
    """Traces the operations of a mount if the environment says so. Call it before the first operation."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    handler = RotatingFileHandler(path, maxBytes=_MOST, backupCount=1, errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.Logger("artfs.trace")
    log.addHandler(handler)
    for name, method in inspect.getmembers(operations, inspect.iscoroutinefunction):
        if not name.startswith("_"):
            setattr(operations, name, _answered(log, name, method))
    pyfuse3.readdir_reply = _called(log, "listed", pyfuse3.readdir_reply)
    for owner, name in ((operations, "forget"), (notifier, "entry"), (notifier, "inode")):
        what = name if owner is operations else f"notify {name}"
        setattr(owner, name, _called(log, what, getattr(owner, name)))


def _answered(
    log: logging.Logger, name: str, method: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def traced(*arguments: Any) -> Any:
        try:
            answer = await method(*arguments)
        except pyfuse3.FUSEError as error:
            log.info("%s(%s) -> %s", name, _shown(arguments), errno.errorcode.get(error.errno, error.errno))
            raise
        log.info("%s(%s) -> %s", name, _shown(arguments), _value(answer))
        return answer

    return traced


def _called(log: logging.Logger, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def traced(*arguments: Any, **named: Any) -> Any:
        log.info("%s(%s)", name, _shown(arguments))
        return method(*arguments, **named)

    return traced


def _shown(values: tuple[Any, ...] | list[Any]) -> str:
    return ", ".join(map(_value, values))


def _value(value: Any) -> str:
    match value:
        case pyfuse3.EntryAttributes():
            return (
                f"<{value.st_ino:#x} mode {value.st_mode:o} nlink {value.st_nlink} size {value.st_size}"
                f" owner {value.st_uid}:{value.st_gid} mtime {value.st_mtime_ns}"
                f" kept {value.entry_timeout:g}, {value.attr_timeout:g} s>"
            )
        case pyfuse3.FileInfo():
            return f"<fh {value.fh}>"
        case pyfuse3.SetattrFields():
            return "+".join(name for name in _SETTABLE if getattr(value, name)) or "nothing"
        case pyfuse3.RequestContext():
            return f"pid {value.pid}"
        case bytes() | memoryview() if len(value) > _SHOWN:
            return f"{len(value)} bytes"
        case bool() | None:
            return str(value)
        case int():
            return hex(value) if value >> 32 else str(value)
        case tuple() | list():
            return f"[{_shown(value)}]"
        case memoryview():
            return repr(bytes(value))
        case pyfuse3.ReaddirToken():
            return "..."
    return repr(value)


_SETTABLE = ("update_mode", "update_uid", "update_gid", "update_size", "update_atime", "update_mtime")
