"""The manual names tests that exist, the numbers and control files of the code, and the picture's labels."""

from __future__ import annotations

import html
import re
from pkgutil import resolve_name

import pytest

from artfs.limits.limit import Limit
from artfs.vfs.control import file_registry
from tests.mount.mounting import REPOSITORY

DOCS = REPOSITORY / "artfs" / "docs"


def promised_tests() -> set[str]:
    """Returns each test in semantics.md as ``FILE::NAME``; one without a file is in the one named before."""
    found: list[str] = []
    for file, name in re.findall(r"`([\w/.]*)::(\w+)`", (DOCS / "semantics.md").read_text()):
        found.append(f"{file or found[-1].partition('::')[0]}::{name}")
    return set(found)


def defined_limits() -> dict[str, str]:
    """Returns the dotted names in limits.md, each with its row."""
    rows = (DOCS / "limits.md").read_text().splitlines()
    return {name: row for row in rows for name in re.findall(r"`(artfs(?:\.\w+)+)`", row)}


def numbers(row: str) -> set[float]:
    """Returns the numbers in a row of a table: plain, with a unit, and powers of two."""
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "days": 86400}
    found: set[float] = set()
    for digits, unit in re.findall(r"(\d[\d,]*)(?: (KiB|MiB|GiB|days))?", row):
        found.add(int(digits.replace(",", "")) * units.get(unit, 1))
    for exponent, less in re.findall(r"\b2\^(\d+)( - 1)?", row):
        found.add((1 << int(exponent)) - bool(less))
    return found


def test_the_tables_are_read() -> None:
    assert len(promised_tests()) > 80
    assert len(defined_limits()) > 30


@pytest.mark.parametrize("test", sorted(promised_tests()))
def test_a_promise_has_its_test(test: str) -> None:
    file, _, name = test.partition("::")
    assert re.search(rf"^ *def {name}\(", (REPOSITORY / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(("name", "row"), defined_limits().items(), ids=list(defined_limits()))
def test_a_limit_is_what_the_code_says(name: str, row: str) -> None:
    limit = resolve_name(name)
    if isinstance(limit, (int, float)):
        assert limit in numbers(row)
    elif isinstance(limit, Limit):
        assert {limit.total, limit.share()} <= numbers(row)
    elif isinstance(limit, tuple):
        assert set(limit) <= numbers(row)


def test_the_picture_has_the_labels_of_its_source() -> None:
    source, picture = ((DOCS / f"overview.{kind}").read_text() for kind in ("dot", "svg"))
    labels = {line for label in re.findall(r'label="([^"]+)"', source) for line in label.split(r"\n") if line}
    shown = {" ".join(html.unescape(text).split()) for text in re.findall(r"<text[^>]*>([^<]*)<", picture)}
    assert {" ".join(label.split()) for label in labels} == shown - {""}


def test_each_control_file_is_described() -> None:
    text = (DOCS / "control-files.md").read_text()
    tables = re.split(
        r"^(?:The volume|A collection|A pending version|A version)'s:\n", text, flags=re.MULTILINE
    )
    for kind, table in zip(("VOLUME", "COLLECTION", "PENDING", "VERSION"), tables[1:], strict=True):
        for file in getattr(file_registry, f"{kind}_FILES"):
            # Each tree has `error`, which has one row.
            where = tables[1] if file.name == "error" else table
            assert re.search(rf"^\|.*`{re.escape(file.name)}[`/].*\|", where, re.MULTILINE), (kind, file.name)
