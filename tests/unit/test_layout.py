"""Init and open of volumes, and their refusals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artfs.errors import NotAVolume, VolumeError, VolumeExists, VolumeTooNew
from artfs.model.digest import Algorithm
from artfs.store import layout
from artfs.store.layout import DIRECTORIES, Layout
from tests.unit.catalogs import GOLDEN
from tests.unit.stores import as_nobody, crash_at, crash_points


def test_init_makes_an_empty_volume(tmp_path: Path) -> None:
    with Layout.init(tmp_path / "v", Algorithm.SHA256) as made:
        assert made.algorithm is Algorithm.SHA256
    with Layout.open(tmp_path / "v") as found:
        assert found.config == made.config
        assert found.config.format == 2
        assert os.stat(tmp_path / "v").st_mode & 0o7777 == 0o700
    assert sorted(os.listdir(tmp_path / "v")) == [
        "artfs.json",
        "collections",
        "damaged",
        "locks",
        "logs",
        "objects",
        "runs",
        "trash",
    ]
    assert sorted(os.listdir(tmp_path / "v/objects")) == ["blobs", "trees"]
    assert layout.is_volume(tmp_path / "v")
    assert not layout.is_volume(tmp_path)


def test_the_configuration_is_that_of_the_golden_file() -> None:
    config = layout.VolumeConfig(
        format=2,
        hash="xxh128",
        id="00000000-0000-4000-8000-000000000000",
        created_at="2030-01-02T03:04:05.000006Z",
    )
    assert layout.encode_config(config) == (GOLDEN / "artfs.json").read_bytes()


def test_init_accepts_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir(mode=0o755)
    Layout.init(tmp_path / "v").close()
    assert os.stat(tmp_path / "v").st_mode & 0o7777 == 0o700


def test_init_refuses_a_path_that_is_in_use(tmp_path: Path) -> None:
    Layout.init(tmp_path / "v").close()
    with pytest.raises(VolumeExists, match="a volume already"):
        Layout.init(tmp_path / "v")
    with pytest.raises(VolumeExists, match="not empty"):
        Layout.init(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VolumeExists, match="a file"):
        Layout.init(tmp_path / "file")
    with pytest.raises(VolumeError, match="above"):
        Layout.init(tmp_path / "none/v")


def test_open_refuses_and_says_why(tmp_path: Path) -> None:
    def config(text: str) -> Path:
        (tmp_path / "artfs.json").write_text(text)
        return tmp_path

    with pytest.raises(NotAVolume, match="no such directory"):
        Layout.open(tmp_path / "none")
    with pytest.raises(NotAVolume, match=r"no artfs\.json"):
        Layout.open(tmp_path)
    for text in (
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 0, "hash": "xxh128", "id": "", "created_at": ""}',
    ):
        with pytest.raises(NotAVolume):
            Layout.open(config(text))
    with pytest.raises(NotAVolume, match="use one of"):
        Layout.open(config('{"format": 1, "hash": "md5", "id": "", "created_at": ""}'))
    with pytest.raises(VolumeTooNew) as caught:
        Layout.open(config('{"format": 3, "other": []}'))
    assert (caught.value.found, caught.value.known) == (3, 2)
    with pytest.raises(NotAVolume, match="not a directory"):
        Layout.open(tmp_path / "artfs.json")
    (tmp_path / "artfs.json").unlink()
    (tmp_path / "artfs.json").symlink_to("elsewhere")
    with pytest.raises(NotAVolume, match="can't be read"):
        Layout.open(tmp_path)


def test_init_completes_after_a_crash_at_any_step(tmp_path: Path) -> None:
    labels = crash_points(lambda: Layout.init(tmp_path / "whole").close())
    for number, label in enumerate(labels):
        path = tmp_path / str(number)
        crash_at(number, lambda path=path: Layout.init(path).close())  # type: ignore[misc]
        try:
            Layout.open(path).close()
        except NotAVolume as error:
            early = label in ("init-root:sync-dir", "init-marker:create")
            cut_short = "init was cut short" in str(error)
            assert cut_short is not early, label
            Layout.init(path).close()
        Layout.open(path).close()


def test_an_ordinary_user_can_make_a_volume() -> None:
    def run(place: Path) -> None:
        Layout.init(place / "v").close()
        Layout.open(place / "v").close()
        (place / "sealed").mkdir(mode=0o500)
        if os.geteuid() != 0:
            with pytest.raises(VolumeError, match="no permission"):
                Layout.init(place / "sealed/v")
            (place / "v").chmod(0)
            with pytest.raises(VolumeError, match="no permission"):
                Layout.open(place / "v")
            (place / "v").chmod(0o700)

    as_nobody(run)


def test_a_volume_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    Layout.init(path).close()
    for mode in (0o707, 0o701, 0o777):
        path.chmod(mode)
        with pytest.raises(VolumeError, match="open to other users"):
            Layout.open(path)
    path.chmod(0o770)  # the owner decides about the group
    Layout.open(path).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_volume_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    Layout.init(path).close()
    os.chown(path, 65534, 65534)
    with pytest.raises(VolumeError, match="belongs to another user"):
        Layout.open(path)


@pytest.mark.parametrize("name", [os.fsdecode(name) for name in DIRECTORIES])
def test_a_symlink_in_place_of_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    path, outside = tmp_path / "volume", tmp_path / "outside"
    Layout.init(path).close()
    (path / name).rename(outside)
    (path / name).symlink_to(outside)
    with pytest.raises(VolumeError, match="is not a directory"):
        Layout.open(path)
