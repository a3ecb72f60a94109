"""Commands on a volume as a whole: init, doctor, status, check, gc."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artfs.cli.output import (
    json_option,
    on_terminal,
    print_facts,
    print_json,
    print_line,
    print_note,
    print_result,
    print_table,
    progress,
    size,
)
from artfs.cli.parameters import with_client

if TYPE_CHECKING:
    from artfs.client.interface import Client

_PATH = click.Path(path_type=Path, readable=False)


@click.command()
@click.argument("path", type=_PATH)
@click.option(
    "--hash",
    "algorithm",
    type=click.Choice(["xxh128", "sha256"]),
    default="xxh128",
    show_default=True,
    help="The digest that names contents. xxh128 is fast, and contents with equal digests are compared byte"
    " by byte; sha256 is for writers who don't trust each other.",
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
        print_note(f"made a volume at {path}; mount it with 'artfs mount {path} DIRECTORY'")


@click.command()
@click.argument("path", type=_PATH)
@json_option
def doctor(path: Path, as_json: bool) -> bool:
    """Check whether PATH can hold a volume, and whether this machine can mount it.

    PATH is a volume, a mount of one, or a directory that will become or contain one. What a volume needs of a
    filesystem is tried in a temporary directory there. `ok` and `limited` suffice: users of the volume get an
    error for what is limited. `artfs init` and `artfs mount` refuse what is `missing`. Exit status 1 if
    something is missing.

    \b
      artfs doctor /srv/vol
      artfs doctor /srv --json
    """
    from artfs.errors import MountError
    from artfs.fuse import prerequisites
    from artfs.store import durable, probe, regular_files
    from artfs.store.layout import is_volume

    directory = _directory_to_try(path)
    volume = is_volume(directory)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        filesystem = probe.filesystem(fd)
        with probe.locked(str(directory), fd, exists=volume):
            found = probe.probe(str(directory), fd)
    finally:
        if not volume:
            regular_files.unlink_quietly(fd, durable.LOCK_FILE)
        os.close(fd)
    try:
        prerequisites.check_machine(allow_other=os.geteuid() == 0)
        found.append(probe.ProbeResult(need="mounting", state="ok"))
    except MountError as error:
        found.append(probe.ProbeResult(need="mounting", state="missing", why=str(error)))
    fit = not any(finding.state == "missing" for finding in found)
    if as_json:
        from msgspec import to_builtins

        print_json(
            {"path": str(directory), "filesystem": filesystem, "fit": fit, "needs": to_builtins(found)}
        )
    else:
        rows = [(finding.need, finding.state, finding.why) for finding in found]
        print_table(("need", "state", "why"), [("filesystem", filesystem or "unknown", directory), *rows])
    return fit


def _directory_to_try(path: Path) -> Path:
    """Returns the volume of a mount, or the nearest directory that exists."""
    from artfs.client.open import mount_around
    from artfs.errors import NotAVolume

    mount = mount_around(path)
    if mount is not None:
        store = Path(json.loads((mount / ".artfs" / "status").read_bytes())["store"])
        if not store.is_dir():
            raise NotAVolume(str(store), "the volume of this mount can't be reached from here")
        return store
    directory = Path(os.path.abspath(path))
    while not os.path.lexists(directory):
        directory = directory.parent
    return directory


@click.command()
@json_option
@with_client
def status(client: Client, as_json: bool) -> None:
    """Show what a volume is and contains.

    \b
      artfs --volume /srv/vol status --json
    """
    print_result(client.volume_status(), as_json, _print_status)


def _print_status(found: dict[str, Any]) -> None:
    in_bytes = ("bytes", "available")
    print_facts([(key, size(value) if key in in_bytes else value) for key, value in found.items()])


@click.command()
@click.option(
    "--repair",
    is_flag=True,
    help="Rebuild what can be rebuilt, and mark the rest so that reading it fails. Never deletes the last"
    " copy of anything.",
)
@click.option("--references", is_flag=True, help="Also check that references still lead to the same bytes.")
@json_option
@with_client
def check(client: Client, repair: bool, references: bool, as_json: bool) -> bool:
    """Read all contents and compare their digests.

    Names every version, pending patch and path that a damaged object affects. Works on the volume itself,
    also while a daemon runs. Exit status 1 if something is damaged.

    \b
      artfs --volume /srv/vol check
    """
    labels = {"trees": "trees", "blobs": "blobs", "references": "references"}
    with client.volume() as volume, progress(labels) as show:
        report = volume.maintenance.check(repair=repair, progress=show)
        if references:
            report.findings += volume.maintenance.check_references(progress=show)
    sound = report.sound
    if as_json:
        from msgspec import to_builtins

        print_json({"sound": sound, **to_builtins(report)})
    else:
        _print_report(report)
    return sound


def _print_report(report: Any) -> None:
    for finding in report.findings:
        repaired = f" ({finding.repaired})" if finding.repaired else ""
        print_line(f"{finding.kind} {finding.id}: {finding.why}{repaired}")
        for touched in finding.touches:
            print_line(f"    {touched.version} {touched.path or '/'}")
    left = sum(finding.repaired != "replaced" for finding in report.findings)
    print_line(
        f"{report.roots} versions, {report.trees} trees, {report.blobs} blobs with {report.bytes} bytes:"
        f" {f'{left} damaged' if left else 'all sound'}"
    )
    if surplus := report.surplus_blobs + report.surplus_trees:
        print_line(f"{surplus} objects with {report.surplus_bytes} bytes are not needed: see 'artfs gc'")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--pending-older-than",
    "age",
    metavar="AGE",
    help="First discard pending versions that have not changed for AGE (90m, 12h, 30d, 2w), that no process"
    " has open for writing and that no run has joined.",
)
@json_option
@with_client
def gc(client: Client, dry_run: bool, age: str | None, as_json: bool) -> None:
    """Remove what is no longer needed.

    Removes the objects that no version, pending version or open file needs. Before that, removes versions
    whose time to live has passed, unless an alias other than latest names them, and discards the pending
    versions that `artfs put` and the SDK made for themselves if their process was killed; its run is recorded
    as crashed. Pending versions whose id a user chose stay. Works on the volume itself, also while
    a daemon and writers run.

    \b
      artfs --volume /srv/vol gc --pending-older-than 30d
    """
    from artfs.client.expiry import discard_abandoned, discard_idle, remove_expired
    from artfs.model.duration import seconds

    older = None if age is None else seconds(age)
    with client.volume() as volume:
        discarded = discard_abandoned(client, dry_run=dry_run)
        if older is not None:
            idle = discard_idle(client, older, dry_run=dry_run)
            discarded += [pending for pending in idle if pending not in discarded]
        crashed = volume.runs.record_crashes(dry_run=dry_run)
        expired = remove_expired(client, dry_run=dry_run)
        with progress({"mark": "looking", "sweep": "removing"}) as show:
            if dry_run:
                collected = volume.maintenance.preview_gc({*discarded, *expired}, progress=show)
            else:
                collected = volume.maintenance.gc(progress=show)
    if as_json:
        from msgspec import to_builtins

        ids = [{"collection": name, "distributed_id": os.fsdecode(pending)} for name, pending in discarded]
        versions = [{"collection": name, "version": version} for name, version in expired]
        print_json({**to_builtins(collected), "discarded": ids, "expired": versions, "crashed": crashed})
        return
    be = "would be " if dry_run else ""
    for name, distributed_id in discarded:
        print_line(f"{name}/{os.fsdecode(distributed_id)}: {be}discarded")
    for run in crashed:
        print_line(f"run {run}, which was killed: {be}recorded as crashed")
    for name, version in expired:
        print_line(f"{name}:{version}, whose ttl has passed: {be}removed")
    print_table(
        ("what", "count"),
        [
            (f"blobs {be}removed", collected.blobs),
            (f"trees {be}removed", collected.trees),
            (f"bytes {be}removed", collected.bytes),
            (f"temporary files {be}removed", collected.temps + collected.trash),
            ("blobs kept", collected.kept_blobs),
        ],
        right=("count",),
    )


COMMANDS = (init, doctor, status, check, gc)
