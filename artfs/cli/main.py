"""The command `artfs`: its options, its commands, and how it ends.

Owns what becomes of an exception: one line on stderr and an exit status, never a traceback for what was
foreseen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from artfs.cli import differences, doctor, exits, labels, making, manual, units, versions, volume
from artfs.errors import ArtfsError
from artfs.printing import failure, printable
from artfs.version import __version__

_NAME, _COMPLETE = "artfs", "_ARTFS_COMPLETE"

_HELP = """Immutable versions of directories, made by many writers at once.

A volume is one directory that holds everything; `artfs mount` shows it as a filesystem. All other commands
work with a mounted volume through its mount, and with an unmounted one directly.

\b
  artfs init /srv/vol
  artfs mount /srv/vol /mnt/art
  export ARTFS_VOLUME=/mnt/art
  cd "$(artfs new model --id job-42)"      # a directory for any tool
  artfs finish model/job-42 best           # model:v0, and best -> v0

Exit status: 0; 1 refused, with one line that says why; 2 wrong usage."""


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(
    cls=_InOrder,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name=_NAME)
@click.option(
    "--volume",
    metavar="PATH",
    type=click.Path(readable=False),
    help="A volume, or any path inside a mount. Default: $ARTFS_VOLUME, else the mount around the working"
    " directory, else ./.artfs-volume.",
)
@click.pass_context
def cli(context: click.Context, volume: str | None) -> None:
    context.obj = volume


for group in (manual, doctor, volume, making, versions, differences, labels, units):
    for command in group.COMMANDS:
        cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status; what nobody foresaw is raised."""
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BaseException as error:
        code = exits.status_of(error)
        if code is None:
            raise
        if code == exits.BROKEN_PIPE:
            _silence()
        elif isinstance(error, click.UsageError):
            error.show()
        elif code == exits.INTERRUPTED:
            click.echo("artfs: interrupted", err=True)
        else:
            click.echo(f"artfs: {_line(error)}", err=True)
        return code
    return status


def _run(arguments: list[str]) -> int:
    if _COMPLETE in os.environ:
        cli.main(arguments, prog_name=_NAME, complete_var=_COMPLETE)
    # Not cli.main(), which writes to stderr by itself when it is interrupted.
    try:
        with cli.make_context(_NAME, arguments) as context:
            status = cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return status if isinstance(status, int) else 0


def _line(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and not isinstance(error, ArtfsError):
        text = failure(error)
    else:
        text = str(error) or type(error).__name__
    return printable(" ".join(text.split()))


def _silence() -> None:
    """Whoever read our output has gone: the interpreter's last flush must not complain."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
