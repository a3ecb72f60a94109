"""Directories as trees of pages: built, read lazily, and changed in few pages.

Must not know where pages are stored: ``put`` stores the bytes of new pages, ``fetch`` returns decoded ones.
It has no state but ``fetch``: any thread may call it that may call ``fetch``.

Offsets: within a directory the i-th entry in name order has offset 1 plus, for each entry before it, 1 and
its own ``DirEntry.entries``. So an entry's preorder *ordinal* in its version is its parent directory's
ordinal (root: 0) plus its offset.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter, lt
from typing import Any, TypeAlias

from artfs.errors import Damaged
from artfs.model.digest import Algorithm, TreeId, algorithm_of, text
from artfs.model.entry import DirEntry, Entry, PageSummary
from artfs.model.pages import LEAF_MAX, ONE_PAGE, Index, Leaf, Page, cuts, encode

Put: TypeAlias = Callable[[TreeId, bytes], None]
Fetch: TypeAlias = Callable[[TreeId], Page]

# A level's items: entries at level 0, summaries of the pages one level below at each other.
_Item: TypeAlias = Entry | PageSummary
_KEYS = attrgetter("name"), attrgetter("last")
_Emit: TypeAlias = Callable[[int, Sequence[Any]], PageSummary]


def build(entries: Iterable[Entry], algorithm: Algorithm, put: Put) -> PageSummary:
    """Makes the pages of a directory from its entries, which are in the order of their names.

    Consumes the entries in order, and holds those of a few pages. Each page is put once, after those below
    it. Raises ValueError for entries that are not sorted, not unique, or illegal in a sealed tree; pages that
    were put by then are garbage.
    """

    def emit(level: int, items: Sequence[Any]) -> PageSummary:
        data, summary = encode(_page(level, items), algorithm)
        put(summary.tree, data)
        return summary

    return _build(entries, emit)


class TreeReader:
    """Reads only the needed pages of directories, through ``fetch``."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def page(self, tree: TreeId) -> Page:
        """Returns the topmost page of a directory, or any page by its id."""
        return self._fetch(tree)

    def check_count(self, entry: DirEntry) -> None:
        """Raises Damaged if the number of entries differs from that in the directory's own entry.

        Ordinals rely on it. And since each directory then has fewer entries than the one above, a walk ends,
        however pages are crafted.
        """
        if self._fetch(entry.tree).total != entry.entries:
            raise Damaged(f"tree {text(entry.tree)}", "it differs from what the directory above says")

    def below(self, page: Index, position: int) -> Page:
        """Returns the page of an item of an index page.

        Raises Damaged if it differs from the item.
        """
        item = page.items[position]
        child = self._fetch(item.tree)
        same = child.last == item.last and child.names == item.names and child.total == item.entries
        if not same or child.level != page.level - 1:
            raise Damaged(f"tree {text(item.tree)}", "it differs from what the page above says")
        return child

    def summary(self, tree: TreeId) -> PageSummary:
        """Returns the summary of a directory, as :func:`build` does."""
        return self._fetch(tree).summary(tree, algorithm_of(tree))

    def find(self, tree: TreeId, name: bytes) -> tuple[int, Entry] | None:
        """Returns the offset and the entry of a name; None if there is no such name."""
        page, base = self._fetch(tree), 0
        while isinstance(page, Index):
            position = bisect_left(page.keys, name)
            if position == len(page.keys):
                return None
            base += page.starts[position]
            page = self.below(page, position)
        position = bisect_left(page.keys, name)
        if position == len(page.keys) or page.keys[position] != name:
            return None
        return base + page.offsets[position], page.items[position]

    def entries(self, tree: TreeId, start_offset: int = 0) -> Iterator[tuple[int, Entry]]:
        """Yields, in the order of names, the offsets and entries whose offset is ``start_offset`` or more.

        Reads each page when it reaches it. The tree never changes, so an iteration can be stopped and resumed
        at any offset.
        """
        for base, leaf in self._leaves(self._fetch(tree), 0, start_offset):
            position = bisect_left(leaf.offsets, start_offset - base)
            for offset, entry in zip(leaf.offsets[position:], leaf.items[position:], strict=True):
                yield base + offset, entry

    def at(self, tree: TreeId, offset: int) -> tuple[int, Entry]:
        """Returns the direct entry at an offset, or the one above the entry at that offset.

        The returned offset is that of the direct entry. Raises IndexError if there is no entry at
        the offset.
        """
        page, base = self._fetch(tree), 0
        if not 1 <= offset <= page.total:
            raise IndexError(f"tree {text(tree)} has no entry at offset {offset}")
        while isinstance(page, Index):
            position = bisect_left(page.ends, offset - base)
            base += page.starts[position]
            page = self.below(page, position)
        position = bisect_right(page.offsets, offset - base) - 1
        return base + page.offsets[position], page.items[position]

    def update(self, tree: TreeId, changes: Mapping[bytes, Entry | None], put: Put) -> PageSummary:
        """Makes the directory that results when each name gets its new entry, or none.

        The pages are exactly those that :func:`build` would make. Reads and puts only the pages that change
        and those above them; none are put if nothing changes. None for a missing name is no change. Raises
        ValueError like :func:`build`, and for an entry under another name than its own, before anything is
        put.
        """
        for name, entry in changes.items():
            if entry is not None and entry.name != name:
                raise ValueError(f"the entry of {entry.name!r} was given for {name!r}")
        root = self._fetch(tree)
        made = _NewPages(algorithm_of(tree))
        if isinstance(root, Leaf) or self._names_after(tree, root, changes) <= ONE_PAGE:
            items: dict[bytes, Entry] = {entry.name: entry for _, entry in self.entries(tree)}
            _apply(items, changes, changes)
            top = _build(map(items.__getitem__, sorted(items)), made.emit)
        else:
            top = self._update_pages(tree, root, changes, made)
        if top.tree != tree:
            made.hand_over(top.tree, put)
        return top

    def _names_after(self, tree: TreeId, root: Page, changes: Mapping[bytes, Entry | None]) -> int:
        """Counts the direct entries after a change: exactly, if they could be few enough for one page."""
        removed = sum(entry is None for entry in changes.values())
        if root.names - removed > ONE_PAGE:
            return root.names - removed
        names = root.names
        for name, entry in changes.items():
            if entry is None:
                names -= self.find(tree, name) is not None
            else:
                names += self.find(tree, name) is None
        return names

    def _leaves(self, page: Page, base: int, start: int) -> Iterator[tuple[int, Leaf]]:
        """Yields the leaves with offsets of ``start`` or more, each with the number of entries before it."""
        if isinstance(page, Leaf):
            yield base, page
            return
        for position in range(bisect_left(page.ends, start - base), len(page.items)):
            yield from self._leaves(self.below(page, position), base + page.starts[position], start)

    def _update_pages(
        self, tree: TreeId, root: Page, entries: Mapping[bytes, Entry | None], made: _NewPages
    ) -> PageSummary:
        changes: Mapping[bytes, _Item | None] = entries
        pages: list[PageSummary] = []
        for level in range(root.level + 1):
            # The new pages of one level are the changes of the next.
            changes, pages = self._update_level(root, level, changes, made)
            if not changes:
                return self.summary(tree)
        # The root's level is one page, so `pages` are now all pages of the level.
        level = root.level
        while len(pages) > 1:
            level += 1
            pages = list(_pages(level, pages, iter(()), made.emit))
        top = pages[0]
        # build() puts no page above a single one.
        while isinstance(page := made.page(top.tree) or self._fetch(top.tree), Index) and len(page) == 1:
            top = page.items[0]
        return top

    def _update_level(
        self, root: Page, level: int, changes: Mapping[bytes, _Item | None], made: _NewPages
    ) -> tuple[dict[bytes, PageSummary | None], list[PageSummary]]:
        """Cuts the pages of one level again where items change.

        Returns the replacements of the pages that were read, by last name, and the new pages in order.
        """
        names = sorted(changes)
        done = 0
        old: dict[bytes, PageSummary | None] = {}
        new: dict[bytes, PageSummary] = {}
        cursor = _Cursor(self, root, level)
        while done < len(names):
            cursor.seek(names[done])
            left: list[Any] = []
            while True:
                page = cursor.page
                old[page.last] = cursor.item
                end = len(names) if cursor.at_end else bisect_right(names, page.last, done)
                left += _merged(page, changes, names[done:end])
                done = end
                for summary in _complete(level, left, cursor.at_end, made.emit):
                    new[summary.last] = summary
                # With no items left, a page begins where one began before: the rest is unchanged.
                if cursor.at_end or not left:
                    break
                cursor.advance()
        made.forget(summary for summary in old.values() if summary is not None)
        became = {last: new.get(last) for last in (*old, *new) if new.get(last) != old.get(last)}
        return became, list(new.values())


class _Cursor:
    """A position at one page of one level of a tree; it moves right."""

    def __init__(self, reader: TreeReader, root: Page, level: int) -> None:
        self._reader, self._root, self._level = reader, root, level
        self._path: list[tuple[Index, int]] = []
        self.page = root

    @property
    def at_end(self) -> bool:
        return all(position + 1 == len(page) for page, position in self._path)

    @property
    def item(self) -> PageSummary | None:
        """The item of this page in the page above; None at the root."""
        if not self._path:
            return None
        page, position = self._path[-1]
        return page.items[position]

    def seek(self, key: bytes) -> None:
        """Goes to the first page that ends at the key or after it, else to the last page."""
        self._path.clear()
        self._descend(self._root, key)

    def advance(self) -> None:
        """Goes to the next page; there must be one."""
        page, position = self._path.pop()
        while position + 1 == len(page):
            page, position = self._path.pop()
        self._path.append((page, position + 1))
        self._descend(self._reader.below(page, position + 1), b"")

    def _descend(self, page: Page, key: bytes) -> None:
        while isinstance(page, Index) and page.level > self._level:
            position = min(bisect_left(page.keys, key), len(page) - 1)
            self._path.append((page, position))
            page = self._reader.below(page, position)
        self.page = page


class _NewPages:
    """The pages that an update made, until it is known which of them are in the result."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._pages: dict[TreeId, tuple[Page, bytes]] = {}

    def emit(self, level: int, items: Sequence[Any]) -> PageSummary:
        page = _page(level, items)
        data, summary = encode(page, self._algorithm)
        self._pages[summary.tree] = page, data
        return summary

    def page(self, tree: TreeId) -> Page | None:
        return self._pages[tree][0] if tree in self._pages else None

    def forget(self, existing: Iterable[PageSummary]) -> None:
        """Drops pages that the old tree has, too."""
        for summary in existing:
            self._pages.pop(summary.tree, None)

    def hand_over(self, tree: TreeId, put: Put) -> None:
        """Puts this page after the new pages below it."""
        if tree not in self._pages:
            return
        page, data = self._pages.pop(tree)
        if isinstance(page, Index):
            for item in page.items:
                self.hand_over(item.tree, put)
        put(tree, data)


def _build(entries: Iterable[Entry], emit: _Emit) -> PageSummary:
    source = iter(entries)
    first = list(islice(source, ONE_PAGE + 1))
    if len(first) <= ONE_PAGE:
        return emit(0, first)
    pages = list(_pages(0, first, source, emit))
    level = 0
    while len(pages) > 1:
        level += 1
        pages = list(_pages(level, pages, iter(()), emit))
    return pages[0]


def _pages(level: int, left: list[Any], source: Iterator[Any], emit: _Emit) -> Iterator[PageSummary]:
    """Emits all pages of one level: of the items of ``left``, then those of ``source``."""
    key = _KEYS[level > 0]
    last, more = b"", left
    left = []
    while True:
        keys = [last, *map(key, more)]
        if not all(map(lt, keys, islice(keys, 1, None))):
            raise ValueError("the entries of a directory are not sorted, or not unique, or one has no name")
        last = keys[-1]
        left += more
        more = list(islice(source, LEAF_MAX))
        yield from _complete(level, left, not more, emit)
        if not more:
            return


def _complete(level: int, left: list[Any], at_end: bool, emit: _Emit) -> Iterator[PageSummary]:
    """Emits the complete pages and removes their items; at the end of a level all are complete."""
    start = 0
    for end in cuts(list(map(_KEYS[level > 0], left)), level):
        yield emit(level, left[start:end])
        start = end
    if at_end and start < len(left):
        yield emit(level, left[start:])
        start = len(left)
    del left[:start]


def _page(level: int, items: Sequence[Any]) -> Page:
    return Index(level, items) if level else Leaf(items)


def _merged(page: Page, changes: Mapping[bytes, _Item | None], names: Sequence[bytes]) -> Sequence[Any]:
    """Returns the items of a page after the changes of these names."""
    if not names:
        return page.items
    items: dict[bytes, Any] = dict(zip(page.keys, page.items, strict=True))
    _apply(items, changes, names)
    return [items[name] for name in sorted(items)]


def _apply(items: dict[bytes, Any], changes: Mapping[bytes, _Item | None], names: Iterable[bytes]) -> None:
    for name in names:
        item = changes[name]
        if item is None:
            items.pop(name, None)
        else:
            items[name] = item
