"""The command `artfs`: its options, its commands, and how it ends.

Owns what becomes of an exception: one line on stderr and an exit status, and a traceback only for a bug.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from artfs.cli import (
    diff_command,
    help_command,
    label_commands,
    mount_commands,
    pending_commands,
    version_commands,
    volume_commands,
)
from artfs.errors import ArtfsError, Interrupted
from artfs.printing import os_error_text, printable
from artfs.version import __version__

_NAME, _COMPLETE = "artfs", "_ARTFS_COMPLETE"

REFUSED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141

#: The exit status of each exception; the first class of its MRO that is in the table decides.
STATUSES: dict[type[BaseException], int] = {
    ArtfsError: REFUSED,
    Interrupted: INTERRUPTED,
    OSError: REFUSED,
    BrokenPipeError: BROKEN_PIPE,
    KeyboardInterrupt: INTERRUPTED,
    click.Abort: INTERRUPTED,
    click.ClickException: REFUSED,
    click.UsageError: USAGE,
}

_HELP = """Immutable versions of directories, made by many writers at once.

A volume is one directory that holds everything; `artfs mount` shows it as a filesystem. The other commands
work through the mount of a mounted volume, and directly on an unmounted one.

\b
  artfs init /srv/vol
  artfs mount /srv/vol /mnt/art
  export ARTFS_VOLUME=/mnt/art
  cd "$(artfs new model --id job-42)"      # a directory for any tool
  artfs finish model/job-42 best           # model:v0, and best -> v0

`artfs help` lists the topics of the manual.

Exit status: 0; 1 refused, with a line that says why; 2 wrong usage."""


class _OrderedGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(
    cls=_OrderedGroup,
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


for group in (
    help_command,
    volume_commands,
    mount_commands,
    pending_commands,
    version_commands,
    diff_command,
    label_commands,
):
    for command in group.COMMANDS:
        cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status; raises only what is a bug."""
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BaseException as error:
        code = status_of(error)
        if code is None:
            raise
        if code == BROKEN_PIPE:
            # The reader of our output has gone. The interpreter's last flush must not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        elif isinstance(error, click.UsageError):
            error.show()
        elif code == INTERRUPTED:
            click.echo("artfs: interrupted", err=True)
        else:
            click.echo(f"artfs: {_line(error)}", err=True)
        return code
    return status


def status_of(error: BaseException) -> int | None:
    """Returns the exit status for an exception; None for one that is a bug."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)


def _run(arguments: list[str]) -> int:
    if _COMPLETE in os.environ:
        cli.main(arguments, prog_name=_NAME, complete_var=_COMPLETE)
    # Not cli.main(), which writes to stderr by itself when it is interrupted.
    try:
        with cli.make_context(_NAME, arguments) as context:
            # A command that finds something wrong without being refused, like `check`, returns False.
            return REFUSED if cli.invoke(context) is False else 0
    except click.exceptions.Exit as end:
        return end.exit_code


def _line(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and not isinstance(error, ArtfsError):
        text = os_error_text(error)
    else:
        text = str(error) or type(error).__name__
    return printable(" ".join(text.split()))
