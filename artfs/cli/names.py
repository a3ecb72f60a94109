"""How things are named on the command line: NAME:V, NAME/ID. Also opens the volume that they are in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from artfs.model.names import LATEST

if TYPE_CHECKING:
    from artfs.client.interface import Client

    _Named = click.ParamType[tuple[str, str]]
    _Pair = click.ParamType[tuple[str, bytes]]
    _Either = click.ParamType[tuple[str, str | bytes]]
else:  # generic only since click 8.3
    _Named = _Pair = _Either = click.ParamType


def open_volume(context: click.Context) -> Client:
    """Opens the volume of this command line. Raises :class:`click.UsageError` if none was given."""
    from artfs.client.open import find_volume, open_client

    path = context.find_root().obj or find_volume()
    if path is None:
        raise click.UsageError(
            "which volume? Use 'artfs --volume PATH COMMAND' or set ARTFS_VOLUME;"
            " PATH is a volume or any path inside a mount."
        )
    return open_client(path)


class _Version(_Named):
    """NAME:V as a pair; V is `latest` if it is left out and need not be given."""

    name = "NAME:V"

    def __init__(self, *, explicit: bool = False) -> None:
        self.explicit = explicit

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, ref = str(value).partition(":")
        if not name or (colon and not ref) or (self.explicit and not colon):
            self.fail(f"'{value}' is not NAME:V, like model:v3 or model:best", param, ctx)
        return name, ref or LATEST


class _Pending(_Pair):
    """NAME/ID as a pair; the id is bytes."""

    name = "NAME/ID"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, bytes]:
        if isinstance(value, tuple):
            return value
        name, slash, distributed_id = str(value).partition("/")
        if not name or not slash or not distributed_id:
            self.fail(f"'{value}' is not NAME/ID, like model/job-42", param, ctx)
        return name, os.fsencode(distributed_id)


class _VersionOrPending(_Either):
    """NAME:V or NAME/ID; the second part is bytes for an id, which may hold a colon."""

    name = "NAME:V|NAME/ID"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | bytes]:
        if isinstance(value, tuple):
            return value
        slash, colon = str(value).find("/"), str(value).find(":")
        kind = PENDING if slash >= 0 and (colon < 0 or slash < colon) else ONE_VERSION
        return kind.convert(value, param, ctx)


VERSION, ONE_VERSION, PENDING = _Version(), _Version(explicit=True), _Pending()
VERSION_OR_PENDING = _VersionOrPending()
