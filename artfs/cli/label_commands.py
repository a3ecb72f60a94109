"""Commands on the names of versions: alias, unalias, tag, rm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from artfs.cli.output import json_option, print_json, print_line
from artfs.cli.parameters import explicit_version, version, with_client

if TYPE_CHECKING:
    from artfs.client.interface import Client


@click.command()
@click.argument("which", metavar="NAME:V", type=version)
@click.argument("aliases", metavar="ALIAS...", nargs=-1, required=True)
@with_client
def alias(client: Client, which: tuple[str, str], aliases: tuple[str, ...]) -> None:
    """Set or move aliases of a version.

    \b
      artfs alias model:v3 best production "epoch 3"
    """
    client.alias(*which, aliases)


@click.command()
@click.argument("name")
@click.argument("aliases", metavar="ALIAS...", nargs=-1, required=True)
@with_client
def unalias(client: Client, name: str, aliases: tuple[str, ...]) -> None:
    """Remove aliases of a collection; the versions stay.

    \b
      artfs unalias model production
    """
    client.unalias(name, aliases)


@click.command()
@click.argument("which", metavar="NAME:V", type=version)
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@json_option
@with_client
def tag(client: Client, which: tuple[str, str], tags: tuple[str, ...], as_json: bool) -> None:
    """Add tags to a version.

    \b
      artfs tag model:best reviewed "needs work"
    """
    all_tags = client.tag(*which, tags)
    if as_json:
        print_json(all_tags)


@click.command()
@click.argument("which", metavar="NAME:V", type=explicit_version)
@with_client
def rm(client: Client, which: tuple[str, str]) -> None:
    """Delete a version for good.

    Its number is never reused, and `artfs gc` frees its space. A version that an alias other than latest
    names is not deleted.

    \b
      artfs rm model:v2
    """
    print_line(f"{which[0]}:{client.remove(*which)}")


COMMANDS = (alias, unalias, tag, rm)
