"""What commands are given: NAME:V and NAME/ID as click types, and the volume that they work on."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from artfs.model.names import LATEST

if TYPE_CHECKING:
    from artfs.client.interface import Client

P = ParamSpec("P")
R = TypeVar("R")


def with_client(command: Callable[Concatenate[Client, P], R]) -> Callable[P, R]:
    """Opens the volume of the command line for a command, which gets it as its first argument.

    The command raises :class:`click.UsageError` if no volume is named.
    """

    @functools.wraps(command)
    def opened(*arguments: P.args, **options: P.kwargs) -> R:
        from artfs.client.open import find_volume, open_client

        path = click.get_current_context().find_root().obj or find_volume()
        if path is None:
            raise click.UsageError(
                "no volume is named: use 'artfs --volume PATH COMMAND' or set ARTFS_VOLUME;"
                " PATH is a volume or any path inside a mount"
            )
        with open_client(path) as client:
            return command(client, *arguments, **options)

    return opened


def version(text: str, *, explicit: bool = False) -> tuple[str, str]:
    """Parses NAME[:V]; V is `latest` if it is left out, which `explicit` refuses."""
    name, colon, ref = text.partition(":")
    if not name or (not ref and (colon or explicit)):
        raise click.BadParameter(f"'{text}' is not NAME:V, like model:v3 or model:best")
    return name, ref or LATEST


def explicit_version(text: str) -> tuple[str, str]:
    """Parses NAME:V."""
    return version(text, explicit=True)


def pending_version(text: str) -> tuple[str, bytes]:
    """Parses NAME/ID; the id is bytes."""
    name, _, distributed_id = text.partition("/")
    if not name or not distributed_id:
        raise click.BadParameter(f"'{text}' is not NAME/ID, like model/job-42")
    return name, os.fsencode(distributed_id)


def version_or_pending(text: str) -> tuple[str, str | bytes]:
    """Parses NAME:V or NAME/ID; the second part is bytes for an id, which may contain a colon."""
    slash, colon = text.find("/"), text.find(":")
    return pending_version(text) if slash >= 0 and not 0 <= colon < slash else explicit_version(text)
