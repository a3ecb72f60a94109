"""The nodes that the kernel knows by number, and how often it was told each.

Sealed nodes are not in it: their numbers say where they are. Event loop's thread only.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from artfs.vfs.node import SEALED, Node
from artfs.vfs.view import View


class InodeTable:
    def __init__(self, view: View, root: Node) -> None:
        self._view = view
        self._known: dict[int, list[Node | int]] = {root.ino: [root, 1]}

    def __len__(self) -> int:
        return len(self._known)

    def node(self, ino: int) -> Node:
        """Returns a node. Raises ESTALE for a number that the kernel was told to forget."""
        known = self._known.get(ino)
        if known is not None:
            node: Node = known[0]  # type: ignore[assignment]
            now = node.current()
            if now is not node:
                known[0] = now  # held from here on: what it learns must not be lost
            return now
        if ino & SEALED:
            return self._view.sealed_node(ino)
        raise OSError(errno.ESTALE, "the node is not known any more")

    def remember(self, node: Node) -> None:
        """Counts that the kernel is told of a node once more."""
        ino = node.ino
        if ino & SEALED:
            return
        known = self._known.get(ino)
        if known is None:
            self._known[ino] = [node, 1]
        else:
            known[0] = node  # made anew under the same number: the younger one is right
            known[1] += 1  # type: ignore[operator]

    def forget(self, numbers: Iterable[tuple[int, int]]) -> None:
        for ino, count in numbers:
            known = self._known.get(ino)
            if known is not None:
                known[1] -= count  # type: ignore[operator]
                if known[1] <= 0:  # type: ignore[operator]
                    del self._known[ino]
