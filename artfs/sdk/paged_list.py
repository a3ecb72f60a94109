"""Lists that the SDK returns: sequences that wandb's code can page through, too.

Owns paging. The lines of a list are known when it is made; an item is made of its line at the first use. One
thread at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar, overload

from artfs.sdk import arguments

T = TypeVar("T")


class PagedList(Sequence[T], Generic[T]):
    """A list whose items are made one by one.

    Like wandb's it is its own iterator: ``next()`` returns the next item. ``cursor`` says where the next page
    of `per_page` begins; the method that made this list takes it as `start`.

    Example:
        >>> found = api.artifacts("dataset", "mnist", per_page=10)
        >>> len(found), found[0].version, [artifact.version for artifact in found[:2]]
        (2, 'v1', ['v1', 'v0'])
    """

    def __init__(
        self,
        lines: Sequence[Any],
        convert: Callable[[Any], T],
        key: Callable[[Any], object],
        per_page: int = 50,
        start: str | None = None,
    ) -> None:
        """`key` is the cursor of a line; the list begins at the one that `start` names.

        Raises ValueError if there is none.
        """
        arguments.number("per_page", per_page)
        if start is not None:
            first = next((at for at, line in enumerate(lines) if str(key(line)) == start), None)
            if first is None:
                raise ValueError(f"start={start!r} is no cursor of this list: no item has it any more")
            lines = lines[first:]
        self._lines, self._convert, self._key = lines, convert, key
        self._known: dict[int, T] = {}
        self._per_page, self._index = per_page, -1

    @classmethod
    def of(cls, items: Sequence[T], per_page: int = 50) -> PagedList[T]:
        """Makes a list of items; cursors are their indexes."""
        return cls(list(enumerate(items)), itemgetter(1), itemgetter(0), per_page)

    def __len__(self) -> int:
        return len(self._lines)

    def _at(self, place: int) -> T:
        if place not in self._known:
            self._known[place] = self._convert(self._lines[place])
        return self._known[place]

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        places = range(len(self._lines))[index]
        return self._at(places) if isinstance(places, int) else [self._at(place) for place in places]

    def __iter__(self) -> Iterator[T]:
        self._index = -1
        return map(self._at, self._count())

    def _count(self) -> Iterator[int]:
        for place in range(len(self._lines)):
            self._index = place
            yield place

    def __next__(self) -> T:
        if self._index + 1 >= len(self._lines):
            raise StopIteration
        self._index += 1
        return self._at(self._index)

    def next(self) -> T:
        """Returns the next item. Raises StopIteration after the last one.

        Example:
            >>> api.artifacts("dataset", "mnist").next().version
            'v1'
        """
        return self.__next__()

    def __eq__(self, other: object) -> bool:
        """Compares the items with those of a list or of another such list."""
        if not isinstance(other, list | PagedList):
            return NotImplemented
        return len(self) == len(other) and all(map(_equal, self[:], other[:]))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, itertools.islice(map(self._at, range(len(self))), 5)))
        return f"<{type(self).__name__} ({len(self)}): [{shown}{', ...' if len(self) > 5 else ''}]>"

    def _page_end(self) -> int:
        return -(-(self._index + 1) // self._per_page) * self._per_page

    @property
    def more(self) -> bool:
        """Whether there is a page after those that were started."""
        return self._page_end() < len(self._lines)

    @property
    def cursor(self) -> str | None:
        """Where the next page begins; None after the last."""
        return str(self._key(self._lines[self._page_end()])) if self.more else None


def _equal(one: object, other: object) -> bool:
    return one == other
