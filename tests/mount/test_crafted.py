"""A mount of a volume with many crafted collections: each is refused, the others work."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.crafted.crafts import CRAFTS, REGRESSIONS, Craft
from tests.crafted.volumes import BAD, GOOD, SECRET, Crafted, make
from tests.mount.control import finish, show
from tests.mount.mounting import MountedVolume
from tests.thorough import THOROUGH

pytestmark = pytest.mark.fuse

# The other crafts change only one collection and objects of its own.
_ELSEWHERE = ("tree-", "blob-", "serial-", "run-", "mark-of-damage", "directories-10000", "collection-")
_LEGAL = {errno.EIO, errno.ENOENT, errno.EROFS, errno.EINVAL, errno.ESTALE, errno.ENOTDIR, errno.EPERM}

_WALK = """
import json, os, stat, sys
found, seen = [], set()
def tried(path, what):
    try:
        return what(path)
    except OSError as error:
        found.append([os.fsdecode(path), error.errno])
def walk(path, depth=0):
    if path in seen:
        return
    seen.add(path)
    status = tried(path, os.lstat)
    if status is None or depth > 8:
        return
    if stat.S_ISLNK(status.st_mode):
        tried(path, os.readlink)
    elif stat.S_ISDIR(status.st_mode):
        for name in tried(path, os.listdir) or ():
            walk(os.path.join(path, name), depth + 1)
        control = os.path.join(path, b".artfs")
        for name in tried(control, os.listdir) or () if os.path.isdir(control) else ():
            if os.path.isfile(os.path.join(control, name)):
                tried(os.path.join(control, name), read)
    elif stat.S_ISREG(status.st_mode):
        tried(path, read)
def read(path):
    with open(path, "rb") as file:
        data = file.read(1 << 20)
    found.append([os.fsdecode(path), data.hex()])
    return data
NAMES = "v0 v1 v2 best first latest pending/next pending/patch pending/job-0"
for top in map(os.fsencode, sys.argv[1:]):
    walk(top)
    for name in map(os.fsencode, NAMES.split()):
        walk(os.path.join(top, name))
print(json.dumps(found))
"""


def _chosen() -> list[Craft]:
    within = [craft for craft in CRAFTS if not craft.name.startswith(_ELSEWHERE)]
    return [craft for n, craft in enumerate(within) if THOROUGH or craft.name in REGRESSIONS or n % 20 == 0]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[MountedVolume, dict[str, str]]]:
    """The mount, and the craft of each collection."""
    made = MountedVolume()
    template = tmp_path / "template"
    template.mkdir()
    make(template)
    crafted = Crafted(template, tmp_path / "crafted")
    sound = template / "volume/collections/bad"
    collections: dict[str, str] = {}
    for number, craft in enumerate(_chosen()):
        shutil.rmtree(crafted.bad, ignore_errors=True)
        shutil.copytree(sound, crafted.bad, symlinks=True)
        for version in range(2):
            serial = 1000 + 10 * number + version
            crafted.change_record(partial(dict.update, serial=serial), version)
        (crafted.path / "serial").write_text("9000\n")
        craft.do(crafted)
        for moved in crafted.outside.glob("moved-*"):
            moved.rename(moved.with_name(f"{number}-{moved.name}"))
        if os.path.lexists(crafted.bad):
            name = f"c{number}"
            crafted.bad.rename(crafted.bad.with_name(name))
            collections[name] = craft.name
    shutil.copytree(sound, crafted.bad, symlinks=True)
    crafted.path.rename(made.volume)
    made.start()
    try:
        with made.watched():
            yield made, collections
        assert (crafted.outside / "secret").read_bytes() == SECRET
        assert not os.path.lexists(crafted.outside / "planted")
    finally:
        made.stop()
        made.remove()


def _walk(paths: list[Path]) -> list[list[Any]]:
    """Reads all reachable files in another process: each path with its bytes as hex, or an errno."""
    command = [sys.executable, "-c", _WALK, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=100)
    found: list[list[Any]] = json.loads(done.stdout)
    return found


def _refusal(tree: Path) -> int:
    """Returns the errno of a refused finish, 0 for success."""
    try:
        finish(tree, "--wait=0")
    except OSError as error:
        return error.errno or -1
    return 0


def test_crafted_collections_expose_nothing_and_break_no_other(
    mounted: tuple[MountedVolume, dict[str, str]],
) -> None:
    mount, collections = mounted
    assert len(collections) > 30
    known = {b"v0/" + path: data for path, data in BAD.items()}
    read = refused = 0
    for path, found in _walk([mount.point / name for name in collections]):
        name, _, below = os.path.relpath(path, mount.point).partition("/")
        if isinstance(found, int):
            refused += found == errno.EIO
            assert found in _LEGAL, (collections[name], path, os.strerror(found))
            continue
        data = bytes.fromhex(found)
        assert SECRET not in data, (collections[name], path)
        expected = known.get(os.fsencode(below))
        read += expected is not None
        assert expected in (None, data), (collections[name], path)
    assert read > 50
    assert refused > 50
    for name, craft in collections.items():
        for tree in ("next", "patch"):
            number = _refusal(mount.point / name / "pending" / tree)
            assert number in _LEGAL | {0, errno.EBUSY}, (craft, tree, os.strerror(number))
    for path, data in GOOD.items():
        assert (mount.point / "good/v0" / os.fsdecode(path)).read_bytes() == data
    finish(mount.point / "good/pending/next", "after")
    assert (mount.point / "good/after/added").read_bytes() == b"what is added"
    assert show(mount.point, "README")
    assert "Traceback" not in mount.log(), mount.log_tail()
