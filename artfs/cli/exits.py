"""The one table from exceptions to exit statuses. Pure."""

from __future__ import annotations

import click

from artfs import errors

REFUSED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141

#: The nearest class in an exception's order of bases decides.
STATUSES: dict[type[BaseException], int] = {
    errors.ArtfsError: REFUSED,
    errors.Interrupted: INTERRUPTED,
    OSError: REFUSED,
    BrokenPipeError: BROKEN_PIPE,
    KeyboardInterrupt: INTERRUPTED,
    click.Abort: INTERRUPTED,
    click.ClickException: REFUSED,
    click.UsageError: USAGE,
}


def status_of(error: BaseException) -> int | None:
    """Returns the exit status for an exception; None for one that nobody meant to raise."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)
