"""A volume of format 1, whose patches use names on disk that users may use now."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.formats import PATCH, TIMES, format_1, shown
from tests.mount.control import command, finish, show_json, show_lines
from tests.mount.mounting import MountedVolume

pytestmark = pytest.mark.fuse

ONCE_RESERVED = (".artfs-lower", ".artfs-gone", ".artfs-base", ".artfs-stub:x", ".artfs-tmp.1.x")


@pytest.fixture(params=[(), ("--read-only",)], ids=["", "read-only"])
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def old(options: tuple[str, ...]) -> Iterator[MountedVolume]:
    mounted = MountedVolume(options)
    try:
        format_1(mounted.volume)
        mounted.start()
        with mounted.watched():
            yield mounted
        mounted.stop()
        mounted.check()
    finally:
        mounted.remove()


def test_old_patches_are_unchanged(old: MountedVolume) -> None:
    model = old.point / "model"
    assert json.loads((old.volume / "artfs.json").read_text())["format"] == 2
    assert shown(model / "pending" / "patch") == PATCH
    for name, seconds in TIMES.items():
        assert (model / "pending" / "patch" / name).lstat().st_mtime == seconds
    assert shown(model / "pending" / "plain") == {"file": ("-", 0o644, "plain\n")}
    rebased = shown(model / "v0") | {"added": ("-", 0o644, "x\n")}
    assert shown(model / "pending" / "rebased") == rebased


@pytest.mark.parametrize("options", [()], ids=[""])
def test_formerly_reserved_names_work_in_old_patches(old: MountedVolume) -> None:
    tree = old.point / "model" / "pending" / "patch"
    for name in ONCE_RESERVED:
        (tree / name).write_text(name)
        (tree / "dir" / name).mkdir()
        (tree / "dir" / name / "below").symlink_to(name)
    os.unlink(tree / "dir" / "mode")
    wanted = shown(tree)
    assert set(wanted) - set(PATCH) == {
        path for name in ONCE_RESERVED for path in (name, f"dir/{name}", f"dir/{name}/below")
    }
    changes = {change["path"] for change in show_lines(tree, "changes")}
    assert {"dir/gone", "dir/mode", "many/1", *ONCE_RESERVED} <= changes
    finish(tree)
    assert shown(old.point / "model" / "v1") == wanted


@pytest.mark.parametrize("options", [()], ids=[""])
def test_an_old_patch_can_be_rebased_and_finished(old: MountedVolume) -> None:
    model = old.point / "model"
    finish(model / "pending" / "rebased", "best")
    patch = model / "pending" / "patch"
    command(patch, "base", "latest")
    assert shown(patch) == PATCH | {"added": ("-", 0o644, "x\n")}
    assert finish(patch)["version"] == "v2"
    assert show_json(model / "v2", "status")["base"] == "v1"
