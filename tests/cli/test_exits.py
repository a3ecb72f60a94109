"""Every exception that artfs raises on purpose has an exit status."""

from __future__ import annotations

import click
import pytest

from artfs import errors
from artfs.cli import exits

CLASSES = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ArtfsError)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_errors_of_artfs(kind: type[errors.ArtfsError]) -> None:
    error = kind.__new__(kind)
    expected = exits.INTERRUPTED if kind is errors.Interrupted else exits.REFUSED
    assert exits.status_of(error) == expected


def test_others() -> None:
    assert exits.status_of(FileNotFoundError()) == 1
    assert exits.status_of(BrokenPipeError()) == 141
    assert exits.status_of(KeyboardInterrupt()) == 130
    assert exits.status_of(click.UsageError("x")) == 2
    assert exits.status_of(ValueError()) is None
