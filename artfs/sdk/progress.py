"""Progress on a terminal, for people who wait for many files.

Owns the one line on stderr, which is drawn only there and only after a while. Any thread.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from artfs.client.values import Progress, silent

_QUIET = 1.0  # seconds before the first line: what is quick needs none
_INTERVAL = 0.2


@contextlib.contextmanager
def shown(what: str) -> Iterator[Progress]:
    """Gives a progress that writes ``WHAT 12.0 of 340.5 MiB`` over and over, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    last, wrote = time.monotonic() + _QUIET - _INTERVAL, False

    def tell(_phase: str, done: int, of: int) -> None:
        nonlocal last, wrote
        now = time.monotonic()
        if now - last < _INTERVAL:
            return
        last, wrote = now, True
        total = f" of {of / (1 << 20):.1f}" if of else ""
        sys.stderr.write(f"\r\x1b[K{what} {done / (1 << 20):.1f}{total} MiB")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        if wrote:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
