"""Commands for mounts: mount, umount, systemd-unit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from artfs.daemon.background import StartReport

_PATH = click.Path(path_type=Path, readable=False)
# Not click's, which calls stat(2): on a mount whose daemon hangs that never returns.
_POINT = Path


@click.command()
@click.argument("volume", type=_PATH)
@click.argument("directory", type=_POINT)
@click.option("--foreground", is_flag=True, help="Stay in the foreground and log to stderr.")
@click.option(
    "--allow-other/--no-allow-other",
    default=None,
    help="Let other users access the mount, by the permissions of its files. Default: only if you are root.",
)
@click.option("--read-only", is_flag=True, help="Refuse every change.")
@click.option(
    "--write-cache",
    is_flag=True,
    help="Let the kernel collect small writes. Faster for tools that write in tiny pieces, but a crash of the"
    " daemon loses writes that were answered, and a full disk shows at close or fsync.",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Compare sealed files of every size with their digests before the first read, not only those of up"
    " to 1 MiB. Reading a damaged file is then an I/O error, never wrong bytes.",
)
@click.option(
    "--references",
    metavar="SCHEMES",
    help="The URI schemes that the daemon may fetch for users who can write in a pending version, like"
    " file,artfs,https; or none. Default: all.",
)
@click.option(
    "--supervise",
    is_flag=True,
    help="Mount again at once if the daemon is killed or fails. See also `artfs systemd-unit`.",
)
def mount(
    volume: Path,
    directory: Path,
    foreground: bool,
    supervise: bool,
    allow_other: bool | None,
    read_only: bool,
    write_cache: bool,
    verify: bool,
    references: str | None,
) -> None:
    """Mount VOLUME at DIRECTORY, which must be empty.

    Returns when the mount answers. The log is VOLUME/logs/mount.log. `artfs umount DIRECTORY`, SIGTERM and
    SIGINT end the daemon.

    The daemon fetches references from where it can reach, with the credentials in its environment. Limit the
    schemes with --references if its users may not have that reach.

    With --supervise, users get ENOTCONN between the death of a daemon and the new mount. Pending versions
    continue where they were; open files must be opened again. After 5 deaths within a minute the supervisor
    stops and logs why. It never remounts what was unmounted.

    \b
      artfs mount /srv/vol /mnt/art
      artfs mount /srv/vol /mnt/art --supervise
      artfs mount /srv/vol /mnt/art --references file,artfs
    """
    from artfs.daemon import background
    from artfs.store.layout import Layout
    from artfs.volume.volume_references import parse_schemes

    schemes = parse_schemes(references)  # refuses an unknown scheme before a daemon is started
    others = os.geteuid() == 0 if allow_other is None else allow_other
    options = ["--allow-other" if others else "--no-allow-other"]
    options += ["--read-only"] * read_only + ["--write-cache"] * write_cache + ["--verify"] * verify
    options += [] if references is None else ["--references", references]
    # The directory is not resolved: it may be a dead mount.
    daemon = ["mount", "--foreground", *options, "--", os.path.abspath(volume), os.path.abspath(directory)]
    if not foreground:
        with Layout.open(volume):  # refuses what is no volume before its log file is needed
            pass
        supervised = [*daemon[:2], *["--supervise"] * supervise, *daemon[2:]]
        background.start(supervised, volume / "logs" / "mount.log")
        return
    import logging

    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    with background.reporting() as report:
        if supervise:
            from artfs.containers import systemd
            from artfs.daemon.supervisor import Supervisor

            command = [*background.PROGRAM, *daemon]
            Supervisor(volume, directory, command, show_status=systemd.show_status).run(_report_ready(report))
            return
        from artfs.fuse import prerequisites

        # Before pyfuse3 is imported, so that its absence is reported in words.
        prerequisites.check_machine(allow_other=others)
        from artfs.daemon.serve import serve_volume
        from artfs.daemon.supervisor import Supervised
        from artfs.fuse.handshake import Options

        serve_volume(
            volume,
            directory,
            Options(allow_other=others, read_only=read_only, write_cache=write_cache),
            ready=_report_ready(report),
            schemes=schemes,
            verify=verify,
            supervised=Supervised.from_environment(),
        )


def _report_ready(report: StartReport) -> Callable[[], None]:
    """Returns a callback that tells the command in the foreground, or systemd, that the mount answers."""
    from artfs.containers import systemd

    def ready() -> None:
        report.ready()
        systemd.notify("READY=1")

    return ready


@click.command()
@click.argument("directory", type=_POINT)
def umount(directory: Path) -> None:
    """Unmount DIRECTORY, also if it is in use or its daemon has died.

    Returns when the daemon has ended.

    \b
      artfs umount /mnt/art
    """
    from artfs.daemon.unmount import unmount

    unmount(directory)


@click.command("systemd-unit")
@click.argument("volume", type=_PATH)
@click.argument("directory", type=_PATH)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- MOUNT-OPTIONS...]")
@click.option("--user", is_flag=True, help="For a service of your own: systemctl --user.")
def systemd_unit(volume: Path, directory: Path, options: tuple[str, ...], user: bool) -> None:
    """Print a systemd service that mounts VOLUME at DIRECTORY.

    The mount is supervised: it is restored when its daemon is killed, and systemd restarts the supervisor.
    MOUNT-OPTIONS are those of `artfs mount`. The first lines of the output say how to install it.

    \b
      artfs systemd-unit /srv/vol /mnt/art > /etc/systemd/system/artfs-mnt-art.service
      artfs systemd-unit /srv/vol /mnt/art -- --references file,artfs
    """
    from artfs.containers import systemd

    paths = [Path(os.path.abspath(path)) for path in (volume, directory)]
    # Refuses a wrong option now, not in the service.
    mount.make_context("mount", [*options, *map(str, paths)])
    python = os.path.abspath(sys.executable)
    script = os.path.join(os.path.dirname(python), "artfs")
    program = [script] if os.access(script, os.X_OK) else [python, "-P", "-m", "artfs"]
    click.echo(systemd.unit(program, options, *paths, user=user), nl=False)


COMMANDS = (mount, umount, systemd_unit)
