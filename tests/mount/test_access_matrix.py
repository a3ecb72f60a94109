"""Which users may read and command each control file: nobody gets more than mode bits grant.

Every control file of the registry is in the table; a new one without an entry fails.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from artfs.vfs.control import file_registry
from tests.conformance.processes import in_child
from tests.mount.control import command, commit, control, finish, show
from tests.mount.mounting import MountedVolume

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

MOUNT_OPTIONS = ["--allow-other"]

OWNER, MEMBER, STRANGER, TEAM = 1001, 1002, 65534, 2001
USERS: dict[str, tuple[int, list[int]]] = {
    "owner": (OWNER, []),
    "member": (MEMBER, [7, TEAM]),  # by a supplementary group
    "stranger": (STRANGER, [7]),
}

#: A command that each control file accepts from users who may write in its directory; "" for none.
WRITABLE = {
    "volume": {"README": "", "status": "", "metrics": "", "runs": "", "error": ""},
    "collection": {
        "type": "kind",
        "description": "text",
        "tags": "gold",
        "ttl": "30d",
        "scope": "me/",
        "versions": "",
        "error": "",
    },
    "pending": {
        "finish": "--nonsense",
        "discard": "nonsense",
        "status": "",
        "error": "",
        "base": "v1",
        "link": "nonsense",
        "changes": "",
        "aliases": "latest",
        "tags": "tag",
        "description": "text",
        "metadata.json": "{}",
        "labels.json": "{}",
        "runs": "+run",
        "references": "nonsense",
        "owners": "nonsense",
    },
    "version": {
        "finish": "latest",
        "status": "",
        "error": "",
        "manifest.json": "",
        "diff": "",
        "aliases": "",
        "tags": "tag",
        "description": "text",
        "metadata.json": "{}",
        "labels.json": "{}",
        "ttl": "30d",
        "used_by": "+run",
        "updated_at": "",
    },
}
FILES: dict[str, tuple[Any, ...]] = {
    "volume": file_registry.VOLUME_FILES,
    "collection": file_registry.COLLECTION_FILES,
    "pending": file_registry.PENDING_FILES,
    "version": file_registry.VERSION_FILES,
}
DIRECTORIES = {("volume", "runs"), ("version", "diff")}
#: Commands refused with EINVAL, but only to users who may command.
NONSENSE = {"--nonsense", "nonsense"}


@pytest.mark.parametrize("kind", FILES)
def test_every_control_file_is_in_the_table(kind: str) -> None:
    assert {file.name for file in FILES[kind]} == set(WRITABLE[kind])
    for file in FILES[kind]:
        assert file.writable == bool(WRITABLE[kind][file.name])


@pytest.fixture
def places(shared_mnt: Path, model: Path) -> dict[str, Path]:
    """A collection, a pending version and a version of the owner and the team; the volume is root's."""
    version = commit(model, "done", {"file": "data", "dir/below": "below"})
    other = model / "pending" / "other"
    other.mkdir()
    (other / "file").write_text("closed")
    os.chown(other, OWNER, TEAM)
    os.chmod(other, 0o750)
    finish(other)
    job = model / "pending" / "job"
    job.mkdir()
    for path in (model, model / "pending", job):
        os.chown(path, OWNER, TEAM)
    assert version.name == "v0"
    return {"volume": shared_mnt, "collection": model, "pending": job, "version": model / "v1"}


def outcomes(user: str, calls: list[Any]) -> list[int]:
    """Makes calls as a user in one process; returns the errno of each, 0 for success."""
    uid, groups = USERS[user]

    def run() -> list[int]:
        found = []
        for call in calls:
            try:
                call()
                found.append(0)
            except OSError as error:
                found.append(error.errno or -1)
        return found

    value: list[int] = in_child(run, uid=uid, groups=groups)
    return value


def outcome(user: str, call: Any) -> int:
    return outcomes(user, [call])[0]


def write(tree: Path, name: str, text: str) -> None:
    fd = os.open(control(tree, name), os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def look(tree: Path, kind: str, name: str) -> None:
    if (kind, name) in DIRECTORIES:
        os.listdir(control(tree, name))
    else:
        show(tree, name)


# For each mode of the directories: which of owner, member and stranger may read, and which may command.
MODES = {
    0o755: ("oms", "o"),
    0o770: ("om", "om"),
    0o750: ("om", "o"),
    0o700: ("o", "o"),
    0o775: ("oms", "om"),
}


@pytest.mark.parametrize("mode", MODES, ids=oct)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("kind", ["collection", "pending"])
def test_control_files_grant_what_their_directory_does(
    places: dict[str, Path], kind: str, user: str, mode: int
) -> None:
    tree = places[kind]
    os.chmod(tree, mode)
    may_read, may_write = (user[0] in who for who in MODES[mode])
    for name, text in WRITABLE[kind].items():
        path = control(tree, name)
        read, written, *changed = outcomes(
            user,
            [
                partial(look, tree, kind, name),
                partial(write, tree, name, text or "x"),
                partial(os.unlink, path),
                partial(os.rename, path, path.with_name("other")),
                partial(os.chmod, path, 0o777),
                partial(os.chown, path, USERS[user][0], -1),
                partial(os.link, path, tree / "mine"),
                partial(os.setxattr, path, "user.x", b"x"),
            ],
        )
        assert (read == 0) == may_read, (name, read)
        assert read in (0, errno.EACCES)
        if text and may_write:
            # The type of a collection with versions cannot change.
            assert written == (errno.EINVAL if text in NONSENSE else errno.EBUSY if name == "type" else 0), (
                name
            )
        else:
            assert written in (errno.EACCES, errno.EPERM), name
        assert set(changed) <= {errno.EACCES, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP}, name


@pytest.mark.parametrize("user", USERS)
def test_all_users_can_read_the_volumes_control_files(places: dict[str, Path], user: str) -> None:
    for name in WRITABLE["volume"]:
        assert outcome(user, lambda name=name: look(places["volume"], "volume", name)) == 0
        assert outcome(user, lambda name=name: write(places["volume"], name, "x")) in (
            errno.EACCES,
            errno.EPERM,
            errno.EISDIR,
        )
    mine = control(places["volume"], "runs") / "mine"
    assert outcome(user, lambda: os.open(mine, os.O_WRONLY | os.O_CREAT)) == errno.EACCES


@pytest.mark.parametrize("user", USERS)
def test_version_control_files_obey_the_modes_of_version_and_collection(
    places: dict[str, Path], user: str
) -> None:
    tree = places["version"]  # owner and team, 750; its collection 755
    for name, text in WRITABLE["version"].items():
        found = outcome(user, lambda name=name: look(tree, "version", name))
        if user == "stranger":
            assert found == errno.EACCES, name
        elif user == "owner":
            assert found == 0, name
        found = outcome(user, lambda name=name, text=text: write(tree, name, text or "x"))
        if text and user == "owner":
            assert found == 0, name
        else:
            assert found in (errno.EACCES, errno.EPERM, errno.EISDIR), name


@pytest.mark.parametrize("user", USERS)
def test_users_cannot_read_the_store(shared_mount: MountedVolume, places: dict[str, Path], user: str) -> None:
    store = shared_mount.volume
    for path in (store, store / "artfs.json", store / "objects" / "blobs", store / "collections"):
        assert outcome(user, lambda path=path: os.listdir(path)) == errno.EACCES
        assert outcome(user, lambda path=path: os.open(path, os.O_RDONLY)) == errno.EACCES
    assert outcome(user, lambda: os.chdir(store)) == errno.EACCES


@pytest.mark.parametrize("user", USERS)
def test_users_cannot_forge_internal_names_and_xattrs(places: dict[str, Path], user: str) -> None:
    job = places["pending"]
    os.chmod(job, 0o777)
    command(job, "base", "v0")
    refused = (errno.EINVAL, errno.EPERM, errno.ENOENT, errno.EACCES)
    tree = f"xxh128:{'0' * 32}"
    target = f".artfs-stub:104755:{tree}:file"
    (job / "file two").write_text("x")
    os.chmod(job / "file two", 0o666)
    for name in (".artfs@lower", ".artfs@gone", ".artfs@base", ".artfs@tmp.1.x", ".artfs@"):
        path = job / name
        calls = [
            partial(os.mkdir, path),
            partial(os.symlink, "x", path),
            partial(os.open, path, os.O_WRONLY | os.O_CREAT),
            partial(os.mkfifo, path),
            partial(os.rename, job / "file two", path),
            partial(os.link, job / "file two", path),
        ]
        assert set(outcomes(user, calls)) <= set(refused), name
        assert not os.path.lexists(job / name)
    for kind in (0o020000, 0o060000):
        assert outcome(user, lambda kind=kind: os.mknod(job / "node", kind | 0o666, 0)) == errno.EPERM
    for name in ("user.artfs.reference", "user.artfs.uri", "user.artfs.digest", "user.artfs.x"):
        found = outcome(user, lambda name=name: os.setxattr(job / "file two", name, b"x"))
        assert found == errno.EPERM, name
    for name in ("trusted.x", "security.capability", "system.posix_acl_access"):
        found = outcome(user, lambda name=name: os.setxattr(job / "file two", name, b"x" * 20))
        assert found in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL), name
    assert outcome(user, lambda: os.symlink(target, job / "stub")) == 0
    assert os.path.islink(job / "stub")
    assert os.readlink(job / "stub") == target
    assert not os.path.exists(job / "stub")
    version = places["collection"] / str(finish(job)["version"])
    assert os.readlink(version / "stub") == target
