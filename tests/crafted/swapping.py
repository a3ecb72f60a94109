"""Paths that are repeatedly swapped for symlinks while an operation uses them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def swapped(places: Sequence[tuple[Path, Path, Path]]) -> Iterator[list[Path]]:
    """Repeatedly swaps each path for a symlink to its target; yields the list of those swapped."""
    stop = threading.Event()
    done: list[Path] = []

    def swap() -> None:
        while not stop.is_set():
            for path, target, aside in places:
                try:
                    os.rename(path, aside)
                    os.symlink(target, path)
                    os.unlink(path)
                    os.rename(aside, path)
                except OSError:
                    continue
                done.append(path)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        yield done
    finally:
        stop.set()
        swapping.join()
