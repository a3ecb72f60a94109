"""A program for tests: a daemon whose operations raise unexpected exceptions on demand.

    python -m tests.mount.raising ARGUMENTS OF ARTFS

While the file $ARTFS_TEST_RAISE contains ``OPERATION EXCEPTION``, that operation raises that exception when
it looks up its node or handle.
"""

from __future__ import annotations

import builtins
import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from artfs.cli.main import main
from artfs.fuse import operations
from artfs.fuse.inode_table import InodeTable

TRIGGER = Path(os.environ["ARTFS_TEST_RAISE"])


class Odd(Exception):
    """An exception that is in no table."""


def trip(depth: int = 2) -> None:
    """Raises the exception of the operation ``depth`` calls above, if there is one."""
    wanted, _, kind = TRIGGER.read_text().partition(" ")
    if wanted != sys._getframe(depth).f_code.co_name:
        return
    if kind == "Odd":
        raise Odd
    if kind == "UnicodeDecodeError":
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "on demand")
    raise getattr(builtins, kind)("on demand")


class Handles(dict[int, Any]):
    def __getitem__(self, fh: int) -> Any:
        trip()
        return super().__getitem__(fh)

    def pop(self, fh: int, *default: Any) -> Any:
        found = super().pop(fh, *default)
        try:
            trip()
        except BaseException:
            found[0].release()
            raise
        return found


def install() -> None:
    node, forget, init = InodeTable.node, InodeTable.forget, operations.Operations.__init__

    def tripping_node(self: InodeTable, ino: int) -> Any:
        trip()
        return node(self, ino)

    def tripping_forget(self: InodeTable, numbers: Any) -> None:
        forget(self, numbers)
        trip()

    def tripping_init(self: Any, *arguments: Any) -> None:
        init(self, *arguments)
        self._handles, self._listings = Handles(), Handles()

    def tripping_fstatvfs(fd: int) -> os.statvfs_result:
        trip()
        return os.fstatvfs(fd)

    InodeTable.node, InodeTable.forget = tripping_node, tripping_forget  # type: ignore[method-assign]
    operations.Operations.__init__ = tripping_init  # type: ignore[method-assign,assignment]
    # Only for this module; the rest of artfs uses the real one.
    patched = SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
    patched.fstatvfs = tripping_fstatvfs
    operations.os = patched  # type: ignore[attr-defined,assignment]


if __name__ == "__main__":
    install()
    sys.exit(main())


__all__ = ["Handles", "Odd", "errno", "install"]
