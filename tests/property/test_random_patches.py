"""A patch against a real directory, by random operations; tiny pages make large directories.

``ARTFS_PATCH_EXAMPLES`` sets the number of sequences.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from artfs.linux import syscalls, walk
from artfs.pending import backing_inodes
from tests.conformance.driver import OpenFile
from tests.property.memory import ViewWorld
from tests.property.moving import MovingMachine

EXAMPLES = int(os.environ.get("ARTFS_PATCH_EXAMPLES", "100"))
STEPS = 40


@pytest.fixture(autouse=True, scope="module")
def _few_descriptors_and_no_syncs(tiny_pages: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Few descriptors, as with thousands of directories and hundreds of levels.
        patch.setattr(backing_inodes, "OPEN_DIRECTORIES", 2)
        patch.setattr(walk, "_DEEP", 1)
        patch.setattr(os, "fsync", lambda fd: None)
        patch.setattr(syscalls, "syncfs", lambda fd: None)
        yield


def _patch_of_open_stubs(path: Path) -> tuple[ViewWorld, list[bytes], list[OpenFile]]:
    """Makes a patch of 20 stubs; returns it, their names, and files open under the stubs' numbers."""
    world = ViewWorld(path)
    names = [b"%d" % number for number in range(20)]
    for name in names:
        world.fs.open(name, os.O_WRONLY | os.O_CREAT).close()
    world.finish()
    world.start("v0")
    for name in names:
        world.fs.chmod(name, 0o600)
    world.forget()
    return world, names, [world.fs.open(name, os.O_RDONLY) for name in names]


def test_inode_numbers_are_unique(tmp_path: Path):
    """Copies and stubs free their inodes, which the backing filesystem reuses."""
    world, names, held = _patch_of_open_stubs(tmp_path)
    fs = world.fs
    for name in names[:10]:
        fs.chmod(name, 0o640)
    for name in names[10:]:
        fs.open(name, os.O_WRONLY).close()
    made = [fs.open(b"new %d" % number, os.O_RDWR | os.O_CREAT) for number in range(200)]
    assert len({file.stat().ino for file in held + made}) == len(held + made)
    for file in held + made:
        file.close()
    world.close()


@pytest.mark.parametrize("first", ["seen", "unseen"])
def test_hard_links_keep_one_inode_number_after_eviction(tmp_path: Path, first: str):
    """du, tar and rsync -H need it: memory pressure may evict the inode between their lookups."""
    world = ViewWorld(tmp_path)
    world.fs.open(b"file", os.O_WRONLY | os.O_CREAT).close()
    world.fs.symlink(b"file", b"symlink")
    world.finish()
    world.start("v0")
    fs = world.fs
    for name in (b"file", b"symlink"):
        if first == "seen":
            fs.stat(name)
        fs.link(name, name + b" again")
        fs.link(name + b" again", name + b" once more")
    for name in (b"file", b"symlink"):
        numbers = set()
        for each in (name, name + b" again", name + b" once more"):
            numbers.add(fs.stat(each).ino)
            world.forget()
        assert len(numbers) == 1, name
    world.close()


def test_reused_inodes_keep_their_own_numbers_after_eviction(tmp_path: Path):
    """A new file gets the inode of a stub whose path still shows the number computed from it."""
    world, names, held = _patch_of_open_stubs(tmp_path)
    fs = world.fs
    for name in names:
        fs.chmod(name, 0o640)
    for number in range(100):
        fs.open(b"new %d" % number, os.O_RDWR | os.O_CREAT).close()
        fs.link(b"new %d" % number, b"also %d" % number)
    seen = [fs.stat(b"new %d" % number).ino for number in range(100)]
    for file in held:
        file.close()
    world.forget()
    assert [fs.stat(b"also %d" % number).ino for number in range(100)] == seen
    world.close()


def test_a_patch_behaves_like_a_directory():
    run_state_machine_as_test(
        MovingMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining takes minutes
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
