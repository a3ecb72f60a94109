"""The command `doctor`: whether a place can hold a volume, and this machine mount one."""

from __future__ import annotations

import os
from pathlib import Path

import click

from artfs.cli import exits
from artfs.cli.output import json_option, print_json, print_table


@click.command()
@click.argument("path", type=click.Path(path_type=Path, readable=False))
@json_option
def doctor(path: Path, as_json: bool) -> int:
    """Tell whether PATH can hold a volume, and be mounted.

    PATH is a volume, a mount of one, or a directory that shall become or hold one. What a volume needs of a
    filesystem is tried in a directory there, which is removed again. `ok` and `limited` are good enough:
    where something is limited, users of the volume get an error for it. `missing` is what `artfs init` and
    `artfs mount` refuse. Exit status 1 if something is missing.

    \b
      artfs doctor /srv/vol
      artfs doctor /srv --json
    """
    from artfs.errors import MountError
    from artfs.fuse import prerequisites
    from artfs.store import durable, files, probe
    from artfs.store.layout import is_volume

    place = _place(path)
    volume = is_volume(place)
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        filesystem = probe.filesystem(fd)
        with probe.locked(str(place), fd, exists=volume):
            found = probe.probe(str(place), fd)
    finally:
        if not volume:
            files.unlink_quietly(fd, durable.LOCK_FILE)
        os.close(fd)
    try:
        prerequisites.check_machine(allow_other=os.geteuid() == 0)
        found.append(probe.Finding(need="mounting", state="ok"))
    except MountError as error:
        found.append(probe.Finding(need="mounting", state="missing", why=str(error)))
    fit = not any(finding.state == "missing" for finding in found)
    if as_json:
        from msgspec import to_builtins

        print_json({"path": str(place), "filesystem": filesystem, "fit": fit, "needs": to_builtins(found)})
    else:
        rows = [(finding.need, finding.state, finding.why) for finding in found]
        print_table(("need", "state", "why"), [("filesystem", filesystem or "unknown", str(place)), *rows])
    return 0 if fit else exits.REFUSED


def _place(path: Path) -> Path:
    """Returns the directory to try: the volume of a mount, or the nearest one above what is not there."""
    import json

    from artfs.client.open import mount_around
    from artfs.errors import NotAVolume

    mount = mount_around(path)
    if mount is not None:
        store = Path(json.loads((mount / ".artfs" / "status").read_bytes())["store"])
        if not store.is_dir():
            raise NotAVolume(str(store), "the volume of this mount can't be seen from here")
        return store
    place = Path(os.path.abspath(path))
    while not os.path.lexists(place):
        place = place.parent
    return place


COMMANDS = (doctor,)
