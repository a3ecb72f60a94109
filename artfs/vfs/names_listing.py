"""An open directory of artfs's own, of which the names are held, and each is looked up when its turn comes.

Event loop's thread, but for `rewind` of one that says so.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Sequence

from artfs.errors import Damaged, NotFound, printable
from artfs.limits.numbers import LISTED_NAMES
from artfs.vfs.node import Listed, Listing, Node

log = logging.getLogger(__name__)

_NO_DESCRIPTORS = (errno.ENFILE, errno.EMFILE)  # no fault of the entry: the rest would be missing, too


class NamesListing(Listing):
    """The names that there were at first, looked up when they are told: the kernel believes what it is told.

    What has gone meanwhile is passed over, and so is what is damaged: a lookup tells of that one alone.
    """

    def __init__(
        self,
        names: Callable[[], Sequence[bytes]],
        find: Callable[[bytes], Node | None],
        *,
        blocks: bool = False,
    ) -> None:
        """``find`` gives None for what is to be listed no more. ``blocks``: finding the names takes long."""
        self._look, self._find, self.blocks = names, find, blocks
        self._names: Sequence[bytes] = ()

    def rewind(self) -> None:
        names = self._look()
        LISTED_NAMES.give(self.uid, len(self._names))
        self._names = ()
        LISTED_NAMES.take(self.uid, len(names))
        self._names = names

    def entries(self, offset: int) -> Iterator[Listed]:
        for index in range(offset, len(self._names)):
            name = self._names[index]
            try:
                node = self._find(name)
                if node is None:
                    continue
                attributes = node.attributes()
            except (NotFound, Damaged, OSError) as error:
                if isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS:
                    raise
                log.debug("%s is not listed: %s", printable(name), error)
                continue
            yield Listed(name, node, attributes, index + 1)

    def release(self) -> None:
        LISTED_NAMES.give(self.uid, len(self._names))
