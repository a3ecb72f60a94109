"""README's table of promises names tests that are there."""

from __future__ import annotations

import re

import pytest

from tests.mount.mounting import REPOSITORY

TESTS = REPOSITORY / "tests"


def named() -> list[str]:
    """Returns each test of the table as ``FILE::NAME``; one without a file is in that of the one before."""
    text = (REPOSITORY / "README.md").read_text()
    table = text.partition("## What artfs promises")[2].partition("\n**What is verified")[0]
    found: list[str] = []
    for row in table.splitlines():
        for file, name in re.findall(r"`([\w/.]*)::(\w+)`", row):
            found.append(f"{file or found[-1].partition('::')[0]}::{name}")
    return found


def test_the_table_is_read() -> None:
    assert len(named()) > 40


@pytest.mark.parametrize("test", sorted(set(named())))
def test_a_promise_has_its_test(test: str) -> None:
    file, _, name = test.partition("::")
    assert re.search(rf"^ *def {name}\(", (TESTS / file).read_text(), re.MULTILINE)
