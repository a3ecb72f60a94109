"""Commands for whoever sets up a machine: systemd-unit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

_PATH = click.Path(path_type=Path, readable=False)


@click.command("systemd-unit")
@click.argument("volume", type=_PATH)
@click.argument("directory", type=_PATH)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- MOUNT-OPTIONS...]")
@click.option("--user", is_flag=True, help="For your own services: systemctl --user.")
def systemd_unit(volume: Path, directory: Path, options: tuple[str, ...], user: bool) -> None:
    """Print a systemd service that mounts VOLUME at DIRECTORY.

    The mount is supervised: it comes back when its daemon is killed, and systemd restarts the supervisor.
    MOUNT-OPTIONS are those of `artfs mount`. The first lines of what is printed say how to install it.

    \b
      artfs systemd-unit /srv/vol /mnt/art > /etc/systemd/system/artfs-mnt-art.service
      artfs systemd-unit /srv/vol /mnt/art -- --references file,artfs
    """
    from artfs.cli.volume import mount
    from artfs.containers import systemd

    paths = [Path(os.path.abspath(path)) for path in (volume, directory)]
    # A wrong option is told now, not by the service.
    mount.make_context("mount", [*options, *map(str, paths)])
    click.echo(systemd.unit(_program(), options, *paths, user=user), nl=False)


def _program() -> list[str]:
    """How this artfs is run from anywhere."""
    script = Path(os.path.abspath(sys.executable)).with_name("artfs")
    return [str(script)] if os.access(script, os.X_OK) else [os.path.abspath(sys.executable), "-m", "artfs"]


COMMANDS = (systemd_unit,)
