"""Commands on a volume as a whole: init, mount, umount, status, check, gc."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artfs.cli import exits
from artfs.cli.names import open_volume
from artfs.cli.output import (
    json_option,
    note,
    on_terminal,
    print_json,
    print_line,
    print_pairs,
    print_table,
    progress,
    size,
)

if TYPE_CHECKING:
    from artfs.daemon.background import Report

_PATH = click.Path(path_type=Path, readable=False)
# Not click's, which asks for its status: a mountpoint may be one whose daemon never answers.
_POINT = Path


@click.command()
@click.argument("path", type=_PATH)
@click.option(
    "--hash",
    "algorithm",
    type=click.Choice(["xxh128", "sha256"]),
    default="xxh128",
    show_default=True,
    help="What names contents. xxh128 is fast, and equal digests are compared byte by byte; sha256 is for"
    " writers who don't trust each other.",
)
def init(path: Path, algorithm: str) -> None:
    """Make a volume in a new or empty directory.

    \b
      artfs init /srv/vol
    """
    from artfs.model.digest import Algorithm
    from artfs.store.layout import Layout

    Layout.init(path, Algorithm.named(algorithm)).close()
    if on_terminal():
        note(f"made a volume at {path}; mount it with 'artfs mount {path} DIRECTORY'")


@click.command()
@click.argument("volume", type=_PATH)
@click.argument("directory", type=_POINT)
@click.option("--foreground", is_flag=True, help="Stay in the foreground and log to stderr, for supervisors.")
@click.option(
    "--allow-other/--no-allow-other",
    default=None,
    help="Let other users in, with the permissions that files have. Default: if you are root.",
)
@click.option("--read-only", is_flag=True, help="Let nobody change anything.")
@click.option(
    "--write-cache",
    is_flag=True,
    help="Let the kernel collect small writes: faster for tools that write in tiny pieces, but answered"
    " writes die with the daemon, and a full disk shows at close or fsync.",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Compare sealed files of every size with their digests before they are first read, not only those of"
    " up to 1 MiB: a damaged one is an I/O error then, never wrong bytes.",
)
@click.option(
    "--references",
    metavar="SCHEMES",
    help="What the daemon may fetch for those who may write in a pending version, like file,artfs,https; or"
    " none. Default: all.",
)
@click.option(
    "--supervise",
    is_flag=True,
    help="Mount again, at once, if the daemon is killed or fails. See also `artfs systemd-unit`.",
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
    """Mount VOLUME at DIRECTORY, which is empty.

    Returns when the mount answers; the log is VOLUME/logs/mount.log. `artfs umount DIRECTORY` ends it, and so
    do SIGTERM and SIGINT.

    References are fetched by the daemon, from where it can reach and with the credentials in its environment:
    of object stores and http servers with --references only those that are named.

    With --supervise, users see ENOTCONN between a daemon's death and the new mount, and pending versions go
    on where they were; handles that were open are to be opened again. After 5 deaths within a minute it gives
    up, and says so in the log. What was unmounted stays unmounted.

    \b
      artfs mount /srv/vol /mnt/art
      artfs mount /srv/vol /mnt/art --supervise
      artfs mount /srv/vol /mnt/art --references file,artfs
    """
    from artfs.volume.volume_references import schemes_from

    schemes_from(references)  # says what is wrong with it, before a daemon is started
    others = os.geteuid() == 0 if allow_other is None else allow_other
    from artfs.store.layout import Layout

    options = [
        "--allow-other" if others else "--no-allow-other",
        *(["--read-only"] if read_only else []),
        *(["--write-cache"] if write_cache else []),
        *(["--verify"] if verify else []),
        *(["--references", references] if references is not None else []),
    ]
    # The directory is not resolved: it may be a dead mount.
    paths = ["--", os.path.abspath(volume), os.path.abspath(directory)]
    if foreground and supervise:
        _supervise(volume, directory, ["mount", "--foreground", *options, *paths])
        return
    if foreground:
        _serve(volume, directory, others, read_only, write_cache, verify, references)
        return
    from artfs.daemon import background

    with Layout.open(volume):  # says what is wrong with it, before a log file is needed there
        pass
    supervised = ["--supervise"] if supervise else []
    background.start(["mount", "--foreground", *supervised, *options, *paths], volume / "logs" / "mount.log")


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )


def _telling(report: Report) -> Callable[[], None]:
    """Returns what tells whoever waits for it, the command or systemd, that the mount answers."""
    from artfs.containers import systemd

    def ready() -> None:
        report.ready()
        systemd.notify("READY=1")

    return ready


def _supervise(volume: Path, directory: Path, arguments: list[str]) -> None:
    from artfs.containers import systemd
    from artfs.daemon import background
    from artfs.daemon.supervisor import Supervisor

    _log_to_stderr()
    with background.reporting() as report:
        command = [*background.PROGRAM, *arguments]
        Supervisor(volume, directory, command, tell=systemd.tell).run(_telling(report))


def _serve(
    volume: Path,
    directory: Path,
    others: bool,
    read_only: bool,
    write_cache: bool,
    verify: bool,
    references: str | None,
) -> None:
    from artfs.daemon import background

    _log_to_stderr()
    with background.reporting() as report:
        from artfs.fuse import prerequisites

        # Before pyfuse3 is needed, so that its absence is told in words.
        prerequisites.check_machine(allow_other=others)
        from artfs.daemon import serve
        from artfs.fuse.handshake import Options
        from artfs.fuse.supervised import Supervised
        from artfs.volume.volume_references import schemes_from

        serve.mount(
            volume,
            directory,
            Options(allow_other=others, read_only=read_only, write_cache=write_cache),
            ready=_telling(report),
            schemes=schemes_from(references),
            verify=verify,
            supervised=Supervised.from_environment(),
        )


@click.command()
@click.argument("directory", type=_POINT)
def umount(directory: Path) -> None:
    """Unmount DIRECTORY.

    Also one that is in use, or whose daemon has died. Returns when the daemon has ended.

    \b
      artfs umount /mnt/art
    """
    from artfs.daemon.unmount import unmount

    unmount(directory)


@click.command()
@json_option
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show what the volume is and holds.

    \b
      artfs --volume /srv/vol status --json
    """
    with open_volume(context) as client:
        found = client.describe()
    if as_json:
        print_json(found)
        return
    shown = {key: size(value) if key in ("bytes", "available") else value for key, value in found.items()}
    print_pairs(list(shown.items()))


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Rebuild what can be rebuilt, and mark what can't so that reading it fails. Never deletes the last"
    " copy of anything.",
)
@click.option(
    "--references", is_flag=True, help="Ask too whether what references stand for is still the same."
)
@json_option
@click.pass_context
def check(context: click.Context, repair: bool, references: bool, as_json: bool) -> int:
    """Read all contents and compare their digests.

    Names every version, pending patch and path that a damaged object touches. Works on the volume itself,
    safely beside a daemon. Exit status 1 if something is damaged.

    \b
      artfs --volume /srv/vol check
    """
    labels = {"trees": "directories", "blobs": "contents", "references": "references"}
    with open_volume(context) as client, client.volume() as volume, progress(labels) as tell:
        report = volume.upkeep.check(repair=repair, progress=tell)
        if references:
            report.findings += volume.upkeep.check_references(progress=tell)
    sound = report.sound
    if as_json:
        from msgspec import to_builtins

        print_json({"sound": sound, **to_builtins(report)})
    else:
        _print_report(report)
    return 0 if sound else exits.REFUSED


def _print_report(report: Any) -> None:
    for finding in report.findings:
        repaired = f" ({finding.repaired})" if finding.repaired else ""
        print_line(f"{finding.kind} {finding.id}: {finding.why}{repaired}")
        for touched in finding.touches:
            print_line(f"    {touched.version} {touched.path or '/'}")
    left = sum(1 for finding in report.findings if finding.repaired != "replaced")
    print_line(
        f"{report.roots} versions, {report.trees} directory objects, {report.blobs} contents with"
        f" {report.bytes} bytes: {f'{left} damaged' if left else 'all sound'}"
    )
    if report.surplus_blobs or report.surplus_trees:
        surplus = report.surplus_blobs + report.surplus_trees
        print_line(f"{surplus} objects with {report.surplus_bytes} bytes are not needed: see 'artfs gc'")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option(
    "--pending-older-than",
    "age",
    metavar="AGE",
    help="First discard pending versions in which nothing changed for AGE (90m, 12h, 30d, 2w) and which"
    " nobody has open and no run has joined.",
)
@json_option
@click.pass_context
def gc(context: click.Context, dry_run: bool, age: str | None, as_json: bool) -> None:
    """Remove what nothing needs any more.

    That is, no version, no pending version and no open file. Before, versions are removed whose time to live
    has passed, which they or their collection have; never one that an alias other than latest holds. Pending
    versions that `artfs put` or the SDK made for itself are discarded once it was killed, and its run is
    noted as crashed; those whose id a user gave stay. Works on the volume itself, safely beside a daemon and
    writers.

    \b
      artfs --volume /srv/vol gc --pending-older-than 30d
    """
    from artfs.client.expiry import discard_abandoned, discard_idle, remove_expired
    from artfs.model.duration import seconds

    older = None if age is None else seconds(age)
    labels = {"mark": "looking", "sweep": "removing"}
    with open_volume(context) as client, client.volume() as volume:
        discarded = discard_abandoned(client, dry_run=dry_run)
        if older is not None:
            idle = discard_idle(client, older, dry_run=dry_run)
            discarded += [pending for pending in idle if pending not in discarded]
        crashed = volume.runs.note_crashes(dry_run=dry_run)
        expired = remove_expired(client, dry_run=dry_run)
        with progress(labels) as tell:
            if dry_run:
                collected = volume.upkeep.preview_gc({*discarded, *expired}, progress=tell)
            else:
                collected = volume.upkeep.gc(progress=tell)
    if as_json:
        from msgspec import to_builtins

        ids = [{"collection": name, "distributed_id": os.fsdecode(pending)} for name, pending in discarded]
        versions = [{"collection": name, "version": version} for name, version in expired]
        print_json({**to_builtins(collected), "discarded": ids, "expired": versions, "crashed": crashed})
        return
    verb = "would be removed" if dry_run else "removed"
    for name, distributed_id in discarded:
        print_line(f"{name}/{os.fsdecode(distributed_id)} {'would be discarded' if dry_run else 'discarded'}")
    for run in crashed:
        print_line(f"run {run} was killed: {'would be noted as' if dry_run else 'it has'} crashed")
    for name, version in expired:
        print_line(f"{name}:{version} has outlived its ttl: {verb}")
    print_table(
        ("what", "count"),
        [
            (f"contents {verb}", collected.blobs),
            (f"directory objects {verb}", collected.trees),
            (f"bytes {verb}", collected.bytes),
            (f"leftovers {verb}", collected.temps + collected.trash),
            ("contents kept", collected.kept_blobs),
        ],
        right=("count",),
    )


COMMANDS = (init, mount, umount, status, check, gc)
