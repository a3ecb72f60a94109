"""Every exception that artfs raises on purpose has an exit status."""

from __future__ import annotations

import click
import pytest

from artfs import errors
from artfs.cli.main import INTERRUPTED, REFUSED, status_of

CLASSES = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ArtfsError)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_errors_of_artfs(kind: type[errors.ArtfsError]) -> None:
    error = kind.__new__(kind)
    expected = INTERRUPTED if kind is errors.Interrupted else REFUSED
    assert status_of(error) == expected


def test_others() -> None:
    assert status_of(FileNotFoundError()) == 1
    assert status_of(BrokenPipeError()) == 141
    assert status_of(KeyboardInterrupt()) == 130
    assert status_of(click.UsageError("x")) == 2
    assert status_of(ValueError()) is None
