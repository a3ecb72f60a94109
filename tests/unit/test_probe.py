"""A filesystem that does not meet a requirement is refused, and the requirement is named."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artfs.client.open import open_client
from artfs.client.transfer.put import put
from artfs.client.transfer.sources import Sources
from artfs.errors import UnsupportedFilesystem, VolumeExists
from artfs.linux import syscalls
from artfs.store import durable, probe, requirements
from artfs.store.layout import Layout
from artfs.vfs.node import LOWER

_open, _link, _unlink, _rename = os.open, os.link, os.unlink, os.rename
_stat, _fstat, _renameat2 = os.stat, os.fstat, syscalls.renameat2


def findings(directory: Path) -> dict[str, probe.ProbeResult]:
    """Returns the findings in a directory; checks that nothing is left there."""
    before = set(os.listdir(directory))
    with opened(directory) as fd, durable.directory_lock(fd):
        found = probe.probe(str(directory), fd)
    assert set(os.listdir(directory)) == before
    return {finding.need: finding for finding in found}


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = _open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def refusing(code: int) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def replaced(status: os.stat_result, **changes: object) -> Any:
    fields = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
    return SimpleNamespace(**{**fields, **changes})


# ---- faults: each replaces system calls by those of an unsuitable filesystem -------------------------------


def link_copies(src: bytes, dst: bytes, *, src_dir_fd: int, dst_dir_fd: int, **_: object) -> None:
    with (
        open(_open(src, os.O_RDONLY, dir_fd=src_dir_fd), "rb") as source,
        open(_open(dst, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=dst_dir_fd), "wb") as target,
    ):
        shutil.copyfileobj(source, target)


def link_replaces(src: bytes, dst: bytes, *, src_dir_fd: int, dst_dir_fd: int, **_: object) -> None:
    with suppress(FileNotFoundError):
        _unlink(dst, dir_fd=dst_dir_fd)
    _link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def rename_copies(src: bytes, dst: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    if stat.S_ISDIR(_stat(src, dir_fd=src_dir_fd).st_mode):
        _rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        return
    with suppress(FileNotFoundError):
        _unlink(dst, dir_fd=dst_dir_fd)
    link_copies(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
    _unlink(src, dir_fd=src_dir_fd)


def rename_knows_no_flags(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
    _rename(src, dst, src_dir_fd=src_dir, dst_dir_fd=dst_dir)


def exchange_overwrites(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
    _renameat2(src_dir, src, dst_dir, dst, flags & ~syscalls.RENAME_EXCHANGE)


def exchange_does_nothing(src_dir: int, src: bytes, dst_dir: int, dst: bytes, flags: int) -> None:
    if not flags & syscalls.RENAME_EXCHANGE:
        _renameat2(src_dir, src, dst_dir, dst, flags)


def fstat_forgets(fd: int) -> os.stat_result:
    status = _fstat(fd)
    if not status.st_nlink:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return status


def fstat_counts_a_hidden_name(fd: int) -> Any:
    status = _fstat(fd)
    return status if status.st_nlink else replaced(status, st_nlink=1)


def fstat_knows_one_name(fd: int) -> os.stat_result:
    """A filesystem whose inodes are paths loses a removed name's inode, even with other names."""
    if not os.path.exists(os.readlink(f"/proc/self/fd/{fd}")) and _fstat(fd).st_nlink:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return _fstat(fd)


def unlink_hides(name: bytes, *, dir_fd: int) -> None:
    """NFS and libfuse do this with open files."""
    if name.startswith(b".nfs") or not name.startswith(b"d/"):
        _unlink(name, dir_fd=dir_fd)
    else:
        _rename(name, b"d/.nfs" + name[2:], src_dir_fd=dir_fd, dst_dir_fd=dir_fd)


def other_number(status: os.stat_result) -> Any:
    return replaced(status, st_ino=status.st_ino ^ int.from_bytes(os.urandom(4), "big"))


def large_number(status: os.stat_result) -> Any:
    return replaced(status, st_ino=status.st_ino | LOWER)


def of_regular(change: Callable[[os.stat_result], Any], call: Callable[..., Any]) -> Callable[..., Any]:
    def changed(*arguments: Any, **named: Any) -> Any:
        status = call(*arguments, **named)
        return change(status) if stat.S_ISREG(status.st_mode) else status

    return changed


def open_folds_case(name: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
    return _open(name.lower() if isinstance(name, bytes) else name, flags, mode, **named)


def stat_folds_case(name: Any, **named: Any) -> os.stat_result:
    return _stat(b"Aa" if name == b"aA" else name, **named)


def open_composes(name: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
    return _open(b"\xc3\xa9" if name == b"e\xcc\x81" else name, flags, mode, **named)


def open_ignores_excl(name: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
    return _open(name, flags & ~os.O_EXCL, mode, **named)


def mtimes_are_lost(dir_fd: int, name: bytes, atime_ns: int | None, mtime_ns: int | None) -> None:
    if not stat.S_ISLNK(_stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        return
    os.utime(name, ns=(mtime_ns or 0,) * 2, dir_fd=dir_fd, follow_symlinks=False)


def nothing(*_: object, **__: object) -> None:
    pass


_LIES: dict[str, tuple[str, list[tuple[object, str, Any]]]] = {
    "no hard links": ("hard links", [(os, "link", refusing(errno.EPERM))]),
    "links are copies": ("hard links", [(os, "link", link_copies)]),
    "links replace": ("hard links", [(os, "link", link_replaces)]),
    "links are answered only": ("hard links", [(os, "link", nothing)]),
    "O_EXCL is ignored": ("files", [(os, "open", open_ignores_excl)]),
    "renames are copies": ("renames", [(os, "rename", rename_copies)]),
    "renames are answered only": ("renames", [(os, "rename", nothing)]),
    "NOREPLACE replaces": ("renames that replace nothing", [(syscalls, "renameat2", rename_knows_no_flags)]),
    "EXCHANGE overwrites": ("exchanges of names", [(syscalls, "renameat2", exchange_overwrites)]),
    "EXCHANGE does nothing": ("exchanges of names", [(syscalls, "renameat2", exchange_does_nothing)]),
    "no symlinks": ("symlinks", [(os, "symlink", refusing(errno.EPERM))]),
    "modes are not kept": ("modes and owners", [(os, "chmod", nothing)]),
    "mtimes are not kept": ("times", [(syscalls, "utimensat", mtimes_are_lost)]),
    "no xattrs": ("user xattrs", [(os, "setxattr", refusing(errno.EOPNOTSUPP))]),
    "xattrs are not kept": ("user xattrs", [(os, "setxattr", nothing)]),
    "no locks": ("flock", [(fcntl, "flock", refusing(errno.ENOSYS))]),
    "locks are answered only": ("flock", [(fcntl, "flock", nothing)]),
    "letters are the same": ("names", [(os, "stat", stat_folds_case)]),
    "letters become small": ("names", [(os, "open", open_folds_case)]),
    "accents are composed": ("names", [(os, "open", open_composes)]),
    "numbers change": ("stable inode numbers", [(os, "stat", of_regular(other_number, _stat))]),
    "numbers are large": (
        "stable inode numbers",
        [(os, "stat", of_regular(large_number, _stat)), (os, "fstat", of_regular(large_number, _fstat))],
    ),
    "a removed file is forgotten": ("open files that are removed", [(os, "fstat", fstat_forgets)]),
    "a removed file has a name": ("open files that are removed", [(os, "fstat", fstat_counts_a_hidden_name)]),
    "a removed file is hidden": ("open files that are removed", [(os, "unlink", unlink_hides)]),
    "an inode is a path": ("open files with two names", [(os, "fstat", fstat_knows_one_name)]),
}


@pytest.mark.parametrize("lie", _LIES)
def test_each_missing_requirement_is_found_and_named(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need, calls = _LIES[lie]
    with monkeypatch.context() as patch:
        for where, name, call in calls:
            patch.setattr(where, name, call)
        with opened(tmp_path) as fd:
            found = {one.need: one for one in probe.probe(str(tmp_path), fd)}
        assert (found[need].state, bool(found[need].why)) == ("missing", True)
        new, old = tmp_path / "new", tmp_path / "old"
        old.mkdir(0o750)
        for path in (new, old):
            with pytest.raises(
                UnsupportedFilesystem, match="choose a directory on a local filesystem such as ext4"
            ) as refused:
                Layout.init(path)
            assert any(item.startswith(need) for item in refused.value.missing)
            assert "\n" not in str(refused.value)
        assert os.listdir(tmp_path) == ["old"]
    assert stat.S_IMODE(old.stat().st_mode) == 0o750
    Layout.init(new).close()
    Layout.init(old).close()


def test_a_local_filesystem_meets_all_requirements(tmp_path: Path) -> None:
    assert {one.state for one in findings(tmp_path).values()} == {"ok"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_filesystem_without_rename_flags_is_accepted(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CephFS and NFS have none: a link replaces NOREPLACE, and a volume works without EXCHANGE."""
    monkeypatch.setattr(syscalls, "renameat2", refusing(code))
    found = findings(tmp_path)
    assert found["renames that replace nothing"].state == "ok"
    assert found["exchanges of names"].state == "limited"
    assert not [one for one in found.values() if one.state == "missing"]
    Layout.init(tmp_path / "volume").close()


def test_refused_names_are_reported_as_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_odd(name: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
        if isinstance(name, bytes) and b"\xff" in name:
            raise OSError(errno.EILSEQ, os.strerror(errno.EILSEQ))
        return _open(name, flags, mode, **named)

    monkeypatch.setattr(os, "open", refuse_odd)
    found = findings(tmp_path)["names"]
    assert (found.state, found.why) == ("limited", "it refuses names that are not UTF-8")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_unrelated_errors_are_no_findings(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = tmp_path / "volume"
    with Layout.init(volume) as layout:
        monkeypatch.setattr(os, "symlink", refusing(code))
        if code in (errno.ENOSPC, errno.EDQUOT):
            assert layout.check_filesystem() == []  # a full volume can be mounted, to free space
        else:
            with pytest.raises(OSError, match=str(volume)) as caught:
                layout.check_filesystem()
            assert caught.value.errno == code
    with pytest.raises(OSError, match="other") as caught:
        Layout.init(tmp_path / "other")
    assert caught.value.errno == code
    assert not any(probe.is_trial(os.fsencode(name)) for name in os.listdir(volume))


_KILLED = """
import os, signal, sys
from artfs.store import probe
def killed(box):
    box.make(b"a")
    box.mkdir(b"d")
    os.kill(os.getpid(), signal.SIGKILL)
probe.REQUIREMENTS = (("nothing", killed),)
from artfs.store.layout import Layout
Layout.init(sys.argv[1])
"""


def test_the_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    command = [sys.executable, "-c", _KILLED, str(volume)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [probe.is_trial(os.fsencode(name)) for name in os.listdir(volume)] == [True]
    Layout.init(volume).close()
    assert not any(probe.is_trial(os.fsencode(name)) for name in os.listdir(volume))


def test_a_directory_in_use_is_not_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    with pytest.raises(VolumeExists):
        Layout.init(tmp_path)


def test_a_volume_moved_to_an_unsuitable_filesystem_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a mount, on a filesystem of unknown type."""
    volume, source = tmp_path / "volume", tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"bytes")
    Layout.init(volume).close()

    def put_it() -> None:
        with open_client(volume) as access:
            put(access, Sources([os.fsencode(source)]), "model")

    put_it()
    monkeypatch.setattr(probe, "is_known", lambda _fd: False)
    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "renameat2", exchange_overwrites)
        (source / "file").write_bytes(b"others")
        with pytest.raises(UnsupportedFilesystem, match="move the volume to"):
            put_it()
        with open_client(volume) as access:
            assert len(access.versions("model")) == 1
            assert access.pending_names("model") == []
    put_it()
    with open_client(volume) as access:
        assert len(access.versions("model")) == 2


def test_inode_numbers_must_fit_their_bits() -> None:
    assert 1 << requirements.INODE_BITS == LOWER
