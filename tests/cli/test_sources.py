"""What put copies of a source: the attributes of its root, and what its symlinks lead to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from artfs.client.open import open_client
from artfs.client.transfer.sources import Sources
from artfs.client.transfer.symlink_policy import FollowSymlinks
from artfs.client.transfer.tree_writer import TreeWriter, WritePolicy
from artfs.errors import Busy
from tests.cli.running import OLD, Cli, make_files


def _directory(path: Path, mode: int, note: bytes) -> Path:
    path.mkdir()
    (path / f"in-{path.name}").write_text(path.name)
    os.setxattr(path, "user.note", note)
    path.chmod(mode)
    os.utime(path, ns=(OLD, OLD))
    return path


def _root(cli: Cli, name: str, out: Path) -> tuple[int, int, bytes]:
    """Returns mode, mtime and note of the root of a version, after get into a new directory."""
    cli("get", name, out)
    status = out.stat()
    if cli.mounted:
        assert cli.path is not None
        shown = (cli.path / name / "latest" / ".").stat()
        assert (shown.st_mode, shown.st_mtime_ns) == (status.st_mode, status.st_mtime_ns)
    return stat.S_IMODE(status.st_mode), status.st_mtime_ns, os.getxattr(out, "user.note")


@pytest.mark.parametrize("mode", [0o700, 0o555, 0o770])
def test_the_root_has_the_attributes_of_the_source(cli: Cli, name: str, tmp_path: Path, mode: int) -> None:
    source = _directory(tmp_path / "private", mode, b"mine")
    cli("put", source, "--name", name)
    assert _root(cli, name, tmp_path / "out") == (mode, OLD, b"mine")


def test_the_last_of_several_sources_sets_the_root(cli: Cli, name: str, tmp_path: Path) -> None:
    first = _directory(tmp_path / "first", 0o755, b"first")
    last = _directory(tmp_path / "last", 0o700, b"last")
    (tmp_path / "file").write_text("of its own")
    cli("put", first, last, "--name", name)
    assert _root(cli, name, tmp_path / "out") == (0o700, OLD, b"last")
    (first / "new").write_text("new")
    cli("put", first, "--name", name, "--base", "latest")
    assert _root(cli, name, tmp_path / "patched")[0] == 0o755
    cli("put", tmp_path / "file", "--name", name, "--base", "v0")
    assert _root(cli, name, tmp_path / "more")[0] == 0o700


def test_the_last_of_several_puts_sets_the_root(cli: Cli, name: str, tmp_path: Path) -> None:
    first = _directory(tmp_path / "first", 0o555, b"first")
    last = _directory(tmp_path / "last", 0o700, b"last")
    cli("put", first, "--name", name, "--id", "job")
    if cli.mounted:
        assert cli.path is not None
        # Its owner can add more files.
        assert stat.S_IMODE((cli.path / name / "pending" / "job").stat().st_mode) == 0o755
    cli("put", last, "--name", name, "--id", "job")
    cli("finish", f"{name}/job")
    assert _root(cli, name, tmp_path / "out") == (0o700, OLD, b"last")


def test_an_existing_target_keeps_its_mode(cli: Cli, name: str, tmp_path: Path) -> None:
    cli("put", _directory(tmp_path / "private", 0o700, b""), "--name", name)
    (tmp_path / "out").mkdir(mode=0o755)
    cli("get", name, tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A snapshot of Hugging Face's hub, with more kinds of symlinks."""
    make_files(tmp_path / "hub", {"blobs/1": "weights", "blobs/more/2": "more", "snapshots/abc/own": "own"})
    (tmp_path / "hub/blobs/more/here").symlink_to("2")
    snapshot = tmp_path / "hub/snapshots/abc"
    (snapshot / "sub").mkdir()
    (snapshot / "w").symlink_to("../../blobs/1")
    (snapshot / "sub/w").symlink_to("../w")
    (snapshot / "sub/own").symlink_to("../own")
    (snapshot / "absolute").symlink_to(snapshot / "own")
    (snapshot / "round").symlink_to("../abc/own")
    (snapshot / "more").symlink_to("../../blobs/more")
    return snapshot


def _content(cli: Cli, name: str, out: Path) -> dict[str, str]:
    """Returns the content of each file by path, and of each symlink its target behind an arrow."""
    cli("get", name, out)
    found = {}
    for path in out.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(out))] = f"-> {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(out))] = path.read_text()
    return found


def test_symlinks_that_lead_out_are_followed(cli: Cli, name: str, hub: Path, tmp_path: Path) -> None:
    assert cli("put", hub, "--name", name).err == ""
    assert _content(cli, name, tmp_path / "out") == {
        "own": "own",
        "w": "weights",
        "sub/w": "weights",
        "sub/own": "-> ../own",
        "absolute": "own",
        "round": "own",
        "more/2": "more",
        "more/here": "-> 2",
    }


def test_with_never_no_symlink_is_followed(cli: Cli, name: str, hub: Path, tmp_path: Path) -> None:
    cli("put", hub, "--name", name, "--follow-symlinks", "never")
    assert _content(cli, name, tmp_path / "out") == {
        "own": "own",
        "w": "-> ../../blobs/1",
        "sub/w": "-> ../w",
        "sub/own": "-> ../own",
        "absolute": f"-> {hub / 'own'}",
        "round": "-> ../abc/own",
        "more": "-> ../../blobs/more",
    }


def test_with_always_every_symlink_is_followed(cli: Cli, name: str, hub: Path, tmp_path: Path) -> None:
    cli("put", hub, "--name", name, "--follow-symlinks=always")
    found = _content(cli, name, tmp_path / "out")
    assert found["sub/own"] == "own"
    assert found["more/here"] == "more"
    (hub / "nowhere").symlink_to("nothing")
    assert "nowhere" in cli.refused("put", hub, "--name", name, "--follow-symlinks=always")


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/no/such/file", "nothing is there"),
        ("nothing", "nothing is there"),
        ("odd", "Too many levels of symbolic links"),
        ("/dev/null", "it leads to neither a file nor a directory"),
        ("../fifo", "it leads to neither a file nor a directory"),
        ("..", "it leads to a directory that holds it"),
        ("../../..", "it leads to a directory that holds it"),
        ("/", "it leads to a directory that holds it"),
        ("../aside/back", "it leads to a directory that holds it"),
        ("../volume", "it leads to the volume"),
    ],
)
def test_a_symlink_that_can_not_be_followed_stays(
    cli: Cli, name: str, tmp_path: Path, target: str, why: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside/back").symlink_to("../source")
    (tmp_path / "volume").symlink_to(cli.path or cli.volume)
    (source / "odd").symlink_to(target)
    assert cli("put", source, "--name", name).err == f"artfs: kept as a symlink: 'odd' ({why})\n"
    assert _content(cli, name, tmp_path / "out") == {"odd": f"-> {target}"}


def test_a_symlink_to_a_directory_above_stays(cli: Cli, name: str, tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        make_files(tmp_path, {f"{one}/file": one})
        (tmp_path / one / "other").symlink_to(f"../{other}")
    assert (
        "'other/other' (it leads to a directory that holds it)"
        in cli("put", tmp_path / "a", "--name", name).err
    )
    assert _content(cli, name, tmp_path / "out") == {"file": "a", "other/file": "b", "other/other": "-> ../a"}


@pytest.mark.parametrize("was", ["file", "link"])
def test_a_file_that_is_swapped_for_a_symlink(cli: Cli, name: str, tmp_path: Path, was: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "secret").write_text("secret")
    if was == "file":
        (source / "f").write_text("mine")
    else:
        (source / "f").symlink_to("../mine")
    assert cli.path is not None
    with open_client(cli.path) as client:
        sources = Sources([os.fsencode(source)], follow=FollowSymlinks.OUTSIDE)
        sources.check(client.is_volume)
        client.new(name, b"job")
        (source / "f").unlink()
        (source / "f").symlink_to("../secret")
        with client.open_tree(name, b"job") as tree, pytest.raises(Busy, match="'f' changed while"):
            sources.copy(TreeWriter(tree, WritePolicy()))
        client.discard(name, b"job")
