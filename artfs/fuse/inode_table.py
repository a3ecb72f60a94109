"""The nodes that the kernel knows by number, and how many lookups of each it has counted.

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
        """Returns a node. Raises ESTALE for a number that the kernel has forgotten."""
        known = self._known.get(ino)
        if known is not None:
            node: Node = known[0]  # type: ignore[assignment]
            now = node.current()
            if now is not node:
                known[0] = now  # kept from here on, with what it learns
            return now
        if ino & SEALED:
            return self._view.sealed_node(ino)
        raise OSError(errno.ESTALE, "the node is unknown")

    def remember(self, node: Node) -> None:
        """Counts a lookup of a node."""
        ino = node.ino
        if ino & SEALED:
            return
        known = self._known.get(ino)
        if known is None:
            self._known[ino] = [node, 1]
        else:
            known[0] = node  # made again with the same number: the new one is right
            known[1] += 1  # type: ignore[operator]

    def forget(self, numbers: Iterable[tuple[int, int]]) -> None:
        for ino, count in numbers:
            known = self._known.get(ino)
            if known is not None:
                known[1] -= count  # type: ignore[operator]
                if known[1] <= 0:  # type: ignore[operator]
                    del self._known[ino]
