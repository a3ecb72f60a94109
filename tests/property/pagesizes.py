"""The limits of tree pages, which tests shrink so that a few entries take several levels of pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from artfs.model import pages, tree

_OF_PAGES = ("LEAF_BITS", "LEAF_MIN", "LEAF_MAX", "INDEX_BITS", "INDEX_MIN", "INDEX_MAX", "MAX_LEVEL")

REAL = {name: getattr(pages, name) for name in (*_OF_PAGES, "ONE_PAGE")}
TINY = dict(zip(REAL, (2, 2, 8, 1, 2, 4, 40, 6), strict=True))


@contextmanager
def pages_of(sizes: Mapping[str, int]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in _OF_PAGES:
            patch.setattr(pages, name, sizes[name])
        patch.setattr(tree, "ONE_PAGE", sizes["ONE_PAGE"])
        patch.setattr(tree, "LEAF_MAX", sizes["LEAF_MAX"])
        yield
