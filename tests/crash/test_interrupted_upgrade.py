"""A volume of format 1 becomes one of format 2, despite interruptions and concurrent use."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest

from artfs.errors import Damaged, VolumeError, VolumeInUse
from artfs.model import manifest
from artfs.pending import upgrade
from artfs.seal.seal import Request
from artfs.store.layout import Layout
from artfs.volume.volume import Volume
from artfs.volume.volume_references import ALL_REFERENCES
from tests.crash.faults import ERRORS, crash, steps, worth_trying
from tests.formats import PATCH, format_1
from tests.power.images import image, needs

pytestmark = pytest.mark.usefixtures("no_syncs")


def open_and_close(path: Path) -> None:
    Volume.open(path).close()


def _finished(volume: Volume) -> set[str]:
    """Finishes the patch; returns the paths of its version."""
    model = volume.catalog.collection("model")
    answer = volume.finish(model, b"patch", Request())
    record = next(record for record in model.versions() if record.version == answer.version)
    return {os.fsdecode(path) for path, _ in manifest.walk(volume.store.reader, record.root.entry())}


def check_upgraded(path: Path) -> None:
    with Volume.open(path) as volume:
        volume.recover()
        config = json.loads((path / "artfs.json").read_text())
        assert (config["format"], config.get("upgrading_from")) == (2, None)
        assert [*path.glob("collections/*/pending/*/tree/**/.artfs-*")] == []
        assert _finished(volume) == set(PATCH)


def _labels(place: Path) -> list[str]:
    labels: list[str] = []
    with steps(labels.append):
        open_and_close(format_1(place / "whole"))
    assert "upgrade:rename" in labels
    return labels


def test_an_upgrade_completes_after_a_crash(place: Path) -> None:
    for number in worth_trying(_labels(place)):
        path = format_1(place / f"volume-{number}")
        crash(number, partial(open_and_close, path))
        check_upgraded(path)


@pytest.mark.parametrize("error", [error for error in ERRORS if error != "KeyboardInterrupt"])
def test_an_upgrade_completes_after_an_error(place: Path, error: str) -> None:
    """Until then no process takes an old patch for a plain tree."""
    for number in range(len(_labels(place))):
        path = format_1(place / f"volume-{number}")
        with steps(ERRORS[error](number)), pytest.raises(VolumeError, match="present format"):
            open_and_close(path)
        check_upgraded(path)


def test_a_volume_that_an_older_daemon_serves_is_not_upgraded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "_PATIENCE", 0.1)
    path = format_1(place / "volume")
    with Layout.open(path) as layout, layout.mount_lock.exclusive(), pytest.raises(VolumeInUse):
        Volume.open(path)
    assert json.loads((path / "artfs.json").read_text())["format"] == 1
    check_upgraded(path)


def test_an_upgrade_is_not_repeated_after_waiting_for_the_lock(place: Path) -> None:
    """Else it could remove a user's file that has a name of format 1's marks."""
    path = format_1(place / "volume")
    with Volume.open_to_serve(path, ALL_REFERENCES, verify_all=False) as late:
        open_and_close(path)
        taken = path / "collections/model/pending/plain/tree/.artfs-base"
        taken.write_text("the user's")
        late.upgrade()
        assert taken.read_text() == "the user's"


def test_versions_of_a_read_only_format_1_volume_are_readable() -> None:
    """A patch is refused, not taken for a plain tree."""
    needs("ext4")
    with image("ext4") as disk:
        path = format_1(disk.root / "volume")
        disk.remount("ro")
        with Volume.open(path) as volume:
            model = volume.catalog.collection("model")
            assert [record.version for record in model.versions()] == ["v0"]
            with pytest.raises(Damaged, match="of an older format"):
                volume.trees.get("model", b"patch")
            assert volume.trees.get("model", b"plain").label == "model/plain"
        disk.remount("rw")
        check_upgraded(path)


@pytest.mark.parametrize(("where", "mode"), [("dir/deep", 0), ("dir/deep", 0o500), ("", 0o500)])
def test_an_upgrade_needs_the_owners_permissions(place: Path, where: str, mode: int) -> None:
    if os.geteuid() == 0:
        pytest.skip("root changes every directory")
    path = format_1(place / "volume")
    closed = path / "collections/model/pending/patch/tree" / where
    closed.chmod(mode)
    with pytest.raises(VolumeError, match="give its owner all permissions"):
        Volume.open(path)
    closed.chmod(0o755)
    check_upgraded(path)
