"""Fixtures of the property tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.property.pagesizes import TINY, pages_of


@pytest.fixture(scope="module")
def tiny_pages() -> Iterator[None]:
    with pages_of(TINY):
        yield
