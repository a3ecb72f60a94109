"""Commands on the names of versions: alias, unalias, tag, rm."""

from __future__ import annotations

import click

from artfs.cli.names import ONE_VERSION, VERSION, open_volume
from artfs.cli.output import json_option, print_json, print_line


@click.command()
@click.argument("version", metavar="NAME:V", type=VERSION)
@click.argument("aliases", metavar="ALIAS...", nargs=-1, required=True)
@click.pass_context
def alias(context: click.Context, version: tuple[str, str], aliases: tuple[str, ...]) -> None:
    """Set or move aliases of a version.

    \b
      artfs alias model:v3 best production "epoch 3"
    """
    with open_volume(context) as client:
        client.alias(*version, aliases)


@click.command()
@click.argument("name")
@click.argument("aliases", metavar="ALIAS...", nargs=-1, required=True)
@click.pass_context
def unalias(context: click.Context, name: str, aliases: tuple[str, ...]) -> None:
    """Remove aliases of a collection; the versions stay.

    \b
      artfs unalias model production
    """
    with open_volume(context) as client:
        client.unalias(name, aliases)


@click.command()
@click.argument("version", metavar="NAME:V", type=VERSION)
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@json_option
@click.pass_context
def tag(context: click.Context, version: tuple[str, str], tags: tuple[str, ...], as_json: bool) -> None:
    """Add tags to those that a version has.

    \b
      artfs tag model:best reviewed "needs work"
    """
    with open_volume(context) as client:
        found = client.tag(*version, tags)
    if as_json:
        print_json(found)


@click.command()
@click.argument("version", metavar="NAME:V", type=ONE_VERSION)
@click.pass_context
def rm(context: click.Context, version: tuple[str, str]) -> None:
    """Delete a version for good.

    Its number is not used again, and `artfs gc` frees its space. Refused while an alias other than latest
    names it.

    \b
      artfs rm model:v2
    """
    with open_volume(context) as client:
        removed = client.remove(*version)
    print_line(f"{version[0]}:{removed}")


COMMANDS = (alias, unalias, tag, rm)
