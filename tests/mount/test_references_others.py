"""References and permissions, references whose bytes change, and the input of the control file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.helpers import fails
from tests.conformance.processes import NOBODY, in_child
from tests.mount.control import ask, control, finish, show, show_json, show_lines
from tests.mount.mounting import MountedVolume, artfs, mounted_volume, must
from tests.mount.patching import patch
from tests.mount.referring import as_root, open_to_all, refer, refused

pytestmark = pytest.mark.fuse


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that every user may read."""
    open_to_all(tmp_path)
    (tmp_path / "one").write_text("one")
    return tmp_path


def filesystem_of(path: Path) -> str:
    words = ["stat", "-f", "-c", "%T", str(path)]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return "ext4" if found == "ext2/ext3" else found


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def as_nobody(function: Callable[[], Any]) -> Any:
    return in_child(function, uid=NOBODY)


# ---- permissions


@as_root
def test_a_reference_below_a_closed_directory_is_refused(job: Path, outside: Path) -> None:
    os.chmod(job, 0o777)
    (job / "closed" / "open").mkdir(parents=True)
    os.chmod(job / "closed" / "open", 0o777)
    os.chmod(job / "closed", 0o700)
    with fails(errno.EACCES):
        as_nobody(lambda: refer(job, "closed/open/one", (outside / "one").as_uri()))
    assert os.listdir(job / "closed" / "open") == []
    os.chmod(job / "closed", 0o711)
    as_nobody(lambda: refer(job, "closed/open/one", (outside / "one").as_uri()))
    assert (job / "closed" / "open" / "one").stat().st_uid == NOBODY


@as_root
def test_a_reference_inherits_the_group_of_a_setgid_directory(job: Path, outside: Path) -> None:
    os.chmod(job, 0o777)
    (job / "shared").mkdir()
    os.chown(job / "shared", 0, 7)
    os.chmod(job / "shared", 0o2777)
    as_nobody(lambda: refer(job, "shared/one", (outside / "one").as_uri()))
    status = (job / "shared" / "one").stat()
    assert (status.st_uid, status.st_gid) == (NOBODY, 7)


@as_root
def test_names_in_closed_directories_stay_hidden(job: Path, model: Path, outside: Path) -> None:
    uri = (outside / "one").as_uri()
    (job / "closed").mkdir(mode=0o700)
    refer(job, "closed/secret", uri)
    with fails(errno.EACCES):
        as_nobody(lambda: show(job, "references"))
    assert len(show_lines(job, "references")) == 1
    (outside / "one").write_text("two")
    with fails(errno.EIO):
        (job / "closed" / "secret").read_text()
    assert uri in show_json(job, "status")["reference_errors"]
    assert "reference_errors" not in as_nobody(lambda: show_json(job, "status"))
    finish(job)
    with fails(errno.EIO):
        (model / "v0" / "closed" / "secret").read_text()
    assert uri in show_json(model / "v0", "status")["reference_errors"]
    assert "reference_errors" not in as_nobody(lambda: show_json(model / "v0", "status"))


@as_root
@pytest.mark.parametrize("to", ["others", "the group"])
@pytest.mark.parametrize("closed", ["collection", "root", "directory", "file"])
def test_a_reference_does_not_open_closed_entries_of_a_version(
    shared_mnt: Path, model: Path, job: Path, closed: str, to: str
) -> None:
    other = shared_mnt / f"{model.name}-closed"
    other.mkdir()
    tree = other / "pending" / "job"
    tree.mkdir()
    (tree / "dir").mkdir()
    (tree / "dir" / "secret").write_text("secret")
    place = {"root": tree, "directory": tree / "dir", "file": tree / "dir" / "secret"}.get(closed)
    if place is not None:
        directory, file = (0o750, 0o600) if to == "others" else (0o705, 0o604)
        os.chmod(place, file if place.is_file() else directory)
    finish(tree)
    if closed == "collection":
        refer(job, "early", f"artfs://{other.name}:v0/dir/secret")
        os.chmod(other, 0o700)
        with fails(errno.EIO):
            (job / "early").read_text()
    for uri in (f"artfs://{other.name}:v0/dir/secret", f"artfs://{other.name}:latest/dir/secret"):
        assert "not every user may" in refused(job, f"late {uri}", errno.EIO)
    if closed != "file":
        assert "not every user may" in refused(job, f"late artfs://{other.name}:v0", errno.EIO)


def test_internal_xattrs_of_references_are_protected(model: Path, job: Path, outside: Path) -> None:
    uri = (outside / "one").as_uri()
    refer(job, "one", uri)
    os.setxattr(job / "one", "user.mine", b"1")

    def look(path: Path, own: list[str]) -> None:
        assert os.listxattr(path) == own
        assert os.getxattr(path, "user.artfs.uri") == uri.encode()
        assert os.getxattr(path, "user.artfs.digest").startswith(b"xxh128:")
        for name in ("user.artfs.reference", "user.artfs.other"):
            with fails(errno.ENODATA):
                os.getxattr(path, name)
        for name in ("user.artfs.reference", "user.artfs.uri", "user.artfs.digest"):
            with fails(errno.EPERM, errno.EROFS):
                os.setxattr(path, name, b"x")
            with fails(errno.EPERM, errno.EROFS):
                os.removexattr(path, name)

    look(job / "one", ["user.mine"])
    (job / "plain").write_text("plain")
    with fails(errno.ENODATA):
        os.getxattr(job / "plain", "user.artfs.uri")
    finish(job)
    look(model / "v0" / "one", ["user.mine"])
    tree = patch(model, "patch", "v0")
    look(tree / "one", ["user.mine"])
    os.chmod(tree / "one", 0o600)  # a stub now
    look(tree / "one", ["user.mine"])
    os.setxattr(tree / "one", "user.more", b"2")  # copies it up
    look(tree / "one", ["user.mine", "user.more"])
    assert show_json(tree, "status")["bytes"] == 3 + 5


def test_stubs_of_references_count_with_their_size(model: Path, job: Path, outside: Path) -> None:
    refer(job, "one", (outside / "one").as_uri())
    finish(job)
    tree = patch(model, "patch", "v0")
    os.chmod(tree / "one", 0o600)
    status = show_json(tree, "status")
    assert (status["files"], status["bytes"]) == (1, 3)


# ---- the input of the control file


def test_the_text_of_the_control_file_is_valid_input(job: Path, model: Path, outside: Path) -> None:
    odd = b"\xff odd\tname"
    control(job, "references").write_bytes(odd + b" " + (outside / "one").as_uri().encode())
    refer(job, "b", (outside / "one").as_uri(), "--no-checksum")
    text = show(job, "references")
    other = model / "pending" / "other"
    other.mkdir()
    (outside / "one").write_text("two")  # is not read
    assert ask(other, "references", text.rstrip("\n")) == text
    assert ask(other, "references", text.rstrip("\n")) == text  # repeating it changes nothing
    assert show(other, "references") == text
    with fails(errno.EIO):
        (other / os.fsdecode(odd)).read_text()
    assert (other / "b").read_text() == "two"


def test_a_dry_run_reports_and_creates_nothing(job: Path, outside: Path) -> None:
    (outside / "sub").mkdir()
    (outside / "sub" / "two").write_text("two!")
    uri = outside.as_uri()
    shown = lines(ask(job, "references", f"a b {uri} --dry-run"))
    assert [(line["path"], line["size"]) for line in shown] == [("a b/one", 3), ("a b/sub/two", 4)]
    wanted = {"path": "a b", "uri": uri, "no_checksum": True}
    shown = [
        json.loads(line)
        for line in ask(job, "references", json.dumps(wanted | {"dry_run": True})).splitlines()
    ]
    assert {line["checksum"] for line in shown} == {""}
    assert os.listdir(job) == []
    shown = lines(ask(job, "references", json.dumps(wanted)))
    assert [line["path"] for line in shown] == ["a b/one", "a b/sub/two"]
    (outside / "empty").mkdir()
    assert ask(job, "references", f"nothing {(outside / 'empty').as_uri()}") == "ok\n"
    assert os.listdir(job) == ["a b"]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"path": "x"}',
        '{"path": "x", "uri": 7}',
        '{"path": "x", "uri": "file:///etc/hostname", "size": "3", "checksum": ""}',
        '{"path": "x", "uri": "file:///etc/hostname", "size": -1, "checksum": ""}',
        '{"path": "x", "uri": "file:///etc/hostname", "size": true, "checksum": ""}',
        '{"path": "x", "uri": "file:///etc/hostname", "size": 9223372036854775808, "checksum": ""}',
        '{"path": "x", "uri": "file:///etc/hostname", "size": 3}',
        '{"path": "x", "uri": "file:///etc/hostname", "size": 3, "checksum": "", "more": 1}',
        '{"path": "x", "uri": "file:///etc/hostname", "dry-run": true, "more": 1}',
        '{"path": "x", "uri": "file:///etc/hostname", "max_objects": "1"}',
        '{"path": "../x", "uri": "file:///etc/hostname", "size": 3, "checksum": ""}',
        '{"path": ".artfs", "uri": "file:///etc/hostname", "size": 3, "checksum": ""}',
        '{"path": "x", "uri": "gopher://x", "size": 3, "checksum": ""}',
        '{"path": "x", "uri": "artfs://x", "size": 3, "checksum": ""}',
        '{"path": "\\ud800", "uri": "file:///etc/hostname", "size": 3, "checksum": ""}',
        '{"path": "x", "uri": "file:///etc/hostname", "size": 3, "checksum": ""}\n{"path": "y"}',
        "x file:///etc/hostname --max-objects",
        "x file:///etc/hostname --max-objects=-1",
        "x file:///etc/hostname --max-objects=" + "9" * 5000,
        "x file:///etc/hostname --dry-run=yes",
        "x file:///etc/hostname --checksum",
        "",
        " ",
    ],
)
def test_invalid_input_is_refused(job: Path, line: str) -> None:
    assert refused(job, line, errno.EINVAL)
    assert os.listdir(job) == []


def test_all_objects_are_checked_before_one_is_added(job: Path, outside: Path) -> None:
    (outside / "sub").mkdir()
    (outside / "sub" / ".artfs@x").write_text("a name that belongs to artfs")
    assert "are reserved" in refused(job, f"all {outside.as_uri()}", errno.EINVAL)
    assert os.listdir(job) == []


def test_equivalent_uris_work(job: Path, outside: Path) -> None:
    (outside / "dir").mkdir()
    (outside / "dir" / "only").write_text("only")
    for number, uri in enumerate(
        (f"file://{outside}//dir", f"file://{outside}/./dir/", f"file://localhost{outside}/dir")
    ):
        refer(job, str(number), uri)
        assert (job / str(number) / "only").read_text() == "only"
    for number, uri in enumerate((f"file://{outside}//dir/only", f"file://{outside}/dir/./only")):
        refer(job, f"file-{number}", uri)
        assert (job / f"file-{number}").read_text() == "only"
    refer(job, ".", f"file://{outside}/dir/%6Fnly")
    assert (job / "only").read_text() == "only"


def test_a_uri_too_long_for_the_volume_is_refused(
    module_mount: MountedVolume, job: Path, outside: Path
) -> None:
    if filesystem_of(module_mount.volume) != "ext4":
        pytest.skip("other filesystems hold longer xattrs")
    deep = outside.joinpath(*["\u00e4" * 120] * 6)  # 720 bytes each, as a URI has them
    deep.mkdir(parents=True)
    (deep / "file").write_text("file")
    line = f"x {(deep / 'file').as_uri()}"
    assert "too long here" in refused(job, line, errno.EINVAL)
    assert os.listdir(job) == []


def test_references_to_versions_resolve_names_and_references(model: Path, job: Path, outside: Path) -> None:
    (job / "with blanks").write_text("inside")
    os.symlink("with blanks", job / "link")
    refer(job, "far", (outside / "one").as_uri())
    finish(job)
    tree = model / "pending" / "other"
    tree.mkdir()
    refer(tree, "copy", f"artfs://{model.name}:latest/with%20blanks")
    refer(tree, "all", f"artfs://{model.name}:v0/")
    shown = {line["path"]: line["uri"] for line in show_lines(tree, "references")}
    assert shown == {
        "copy": f"artfs://{model.name}:v0/with%20blanks",
        "all/far": (outside / "one").as_uri(),  # the target of the reference in v0
        "all/with blanks": f"artfs://{model.name}:v0/with%20blanks",
    }
    assert (tree / "copy").read_text() == (tree / "all" / "with blanks").read_text() == "inside"
    assert "neither a file nor" in refused(tree, f"x artfs://{model.name}:v0/link", errno.EINVAL)
    assert "no such path" in refused(tree, f"x artfs://{model.name}:v0/none", errno.EIO)
    assert "artfs://COLLECTION:V/PATH" in refused(tree, f"x artfs://{model.name}/none", errno.EINVAL)
    finish(tree)
    os.rmdir(model / "v0")
    with fails(errno.EIO):
        (model / "v1" / "copy").read_text()
    assert "v0" in str(show_json(model / "v1", "status")["reference_errors"])


# ---- bytes that change


def test_changes_of_an_open_reference_are_detected(model: Path, job: Path, outside: Path) -> None:
    source = outside / "big"
    source.write_bytes(b"a" * (4 << 20))
    refer(job, "big", source.as_uri())
    finish(job)
    fd = os.open(model / "v0" / "big", os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(fd, 100, 0) == b"a" * 100
        os.chmod(source, 0o664)  # its bytes are still the recorded ones
        assert os.pread(fd, 100, 1 << 20) == b"a" * 100
        with source.open("r+b") as file:
            file.seek(2 << 20)
            file.write(b"b")
        with fails(errno.EIO):
            os.pread(fd, 100, 2 << 20)
        with fails(errno.EIO):
            os.pread(fd, 100, 3 << 20)
        assert os.pread(fd, 100, 0) == b"a" * 100  # from the page cache
        with source.open("r+b") as file:
            file.seek(2 << 20)
            file.write(b"a")
        assert os.pread(fd, 100, 2 << 20) == b"a" * 100
    finally:
        os.close(fd)
    assert "reference_errors" not in show_json(model / "v0", "status")


def test_references_without_checksums_show_current_bytes(model: Path, job: Path, outside: Path) -> None:
    refer(job, "one", (outside / "one").as_uri(), "--no-checksum")
    finish(job)
    for text in ("one", "two", "six"):
        (outside / "one").write_text(text)
        assert (model / "v0" / "one").read_text() == text


def test_a_mount_names_the_schemes_that_it_refuses(outside: Path) -> None:
    uri = (outside / "one").as_uri()
    with mounted_volume() as mounted:
        tree = mounted.point / "model" / "pending" / "job"
        tree.mkdir(parents=True)
        refer(tree, "one", uri)
        finish(tree)
        assert "artfs" in show_json(mounted.point, "status")["references"]
        must("umount", mounted.point)
        mounted.mount_again("--references", "none")
        assert show_json(mounted.point, "status")["references"] == []
        version = mounted.point / "model" / "v0"
        with fails(errno.EIO):
            (version / "one").read_text()
        [why] = show_json(version, "status")["reference_errors"].values()
        assert "it was mounted with --references none" in why
        assert (version / "one").stat().st_size == 3
        other = mounted.point / "model" / "pending" / "other"
        other.mkdir()
        recorded = json.dumps({"path": "x", "uri": uri, "size": 3, "checksum": ""})
        assert "--references none" in refused(other, recorded, errno.EPERM)
    wrong = artfs("mount", "--references", "file,ftp", mounted.volume, mounted.point)
    assert wrong.returncode == 1
    assert "ftp" in wrong.stderr
