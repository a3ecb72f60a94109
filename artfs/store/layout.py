"""The directories of a volume, and how a volume is created and opened.

Owns: the names at the top of a volume, artfs.json, the checks at opening. Must not know the contents of
collections, runs and pending trees. Any thread may call it. FORMAT.md is the authority on the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from artfs.errors import NotAVolume, UnsupportedFilesystem, VolumeError, VolumeExists, VolumeTooNew
from artfs.model.digest import Algorithm
from artfs.store import durable, probe, shards
from artfs.store.documents import timestamp
from artfs.store.locks import Lock

FORMAT, _OLDEST = 2, 1
CONFIG = b"artfs.json"
# Exists during the whole of init. It has a temp's name, so that gc removes one left beside artfs.json.
UNFINISHED = durable.TEMP_PREFIX + b"init"

LOCKS, OBJECTS, DAMAGED, COLLECTIONS = b"locks", b"objects", b"damaged", b"collections"
RUNS, LOGS, TRASH = b"runs", b"logs", b"trash"
BLOBS, TREES = b"objects/blobs", b"objects/trees"
DIRECTORIES = (LOCKS, OBJECTS, BLOBS, TREES, DAMAGED, COLLECTIONS, RUNS, LOGS, TRASH)
SERIAL = b"serial"
MOUNT_LOCK, OBJECTS_LOCK, SUPERVISOR_LOCK = b"mount", b"objects", b"supervisor"


class VolumeConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of artfs.json; unknown keys are ignored.

    ``upgrading_from`` is an older format while trees in the volume may still have that format.
    """

    format: int
    hash: str
    id: str
    created_at: str
    upgrading_from: int | None = None


def encode_config(config: VolumeConfig) -> bytes:
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


class Layout:
    """An open volume's root directory and its artfs.json.

    ``fd`` stays open until :meth:`close`; all accesses start there, so the volume may be renamed meanwhile.
    ``path`` is for messages.
    """

    def __init__(self, path: str, fd: int, config: VolumeConfig) -> None:
        self.path, self.fd, self.config = path, fd, config
        self.algorithm = Algorithm.named(config.hash)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Layout:
        """Opens a volume.

        Raises NotAVolume (no directory, no artfs.json, half made, unreadable JSON), VolumeTooNew, and
        VolumeError if it may not be read, belongs to another user, or is open to others.
        """
        path = os.fspath(path)
        fd = _open_root(path)
        try:
            config = _read_config(path, fd)
            _check_own(path, fd)
            return cls(path, fd, config)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def init(cls, path: str | os.PathLike[str], algorithm: Algorithm = Algorithm.XXH128) -> Layout:
        """Creates a volume durably in a new or empty directory, or completes one that was half made.

        Raises VolumeExists for a volume, for a directory with anything else in it, and for a file;
        VolumeError if the directory can't be created; UnsupportedFilesystem, and then nothing has changed.
        artfs.json is written last: without it a directory is no volume.
        """
        path, made = os.fspath(path), False
        try:
            os.mkdir(path, 0o700)
            made = True
        except FileExistsError:
            if not os.path.isdir(path):
                raise VolumeExists(path, "there is a file of that name") from None
        except FileNotFoundError:
            why = "the directory above it does not exist, or takes no directories"
            raise VolumeError(f"cannot create a volume at {path}: {why}") from None
        except PermissionError:
            raise VolumeError(f"{path}: no permission to create a directory there") from None
        # Also if it exists: the process that made it may have been killed before it synced.
        _sync_parent(path)
        fd = _open_root(path)
        try:
            with probe.locked(path, fd, exists=False):
                _make(path, fd, algorithm)
            return cls(path, fd, _read_config(path, fd))
        except UnsupportedFilesystem:
            os.close(fd)
            if made:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            raise
        except BaseException:
            os.close(fd)
            raise

    @property
    def is_current(self) -> bool:
        """Tells whether the volume and all trees in it have the present format."""
        return self.config.format == FORMAT and self.config.upgrading_from is None

    def begin_upgrade(self) -> None:
        """Records durably that the volume has the present format, and that trees in it may not."""
        if self.config.format != FORMAT:
            config = replace(self.config, format=FORMAT, upgrading_from=self.config.format)
            durable.replace(self.fd, CONFIG, encode_config(config), label="upgrade-begin")
            self.config = config

    def end_upgrade(self) -> None:
        """Records durably that all trees in the volume have the present format."""
        config = replace(self.config, upgrading_from=None)
        durable.replace(self.fd, CONFIG, encode_config(config), label="upgrade-end")
        self.config = config

    def reload(self) -> None:
        """Reads artfs.json again: another process may have replaced it. Raises as :meth:`open` does."""
        self.config = _read_config(self.path, self.fd)

    def check_filesystem(self) -> list[probe.ProbeResult]:
        """Tries whether the filesystem meets the requirements of a volume, and returns the findings.

        Raises UnsupportedFilesystem: a volume may have been moved to another filesystem, or be accessed
        through one.
        """
        with probe.locked(self.path, self.fd, exists=True):
            return probe.check(self.path, self.fd, exists=True)

    def open_directory(self, name: bytes) -> int:
        """Opens one of :data:`DIRECTORIES`, or a directory below; the caller closes it."""
        return durable.open_directory(self.fd, name)

    def directory(self, name: bytes) -> contextlib.AbstractContextManager[int]:
        """Opens one of :data:`DIRECTORIES` for a with block."""
        return durable.directory(self.fd, name)

    @property
    def mount_lock(self) -> Lock:
        """Held exclusively by the daemon that serves the volume."""
        return Lock(self.fd, LOCKS + b"/" + MOUNT_LOCK)

    @property
    def supervisor_lock(self) -> Lock:
        """Held exclusively by the process that restarts the daemon of the volume."""
        return Lock(self.fd, LOCKS + b"/" + SUPERVISOR_LOCK)

    @property
    def objects_lock(self) -> Lock:
        """Held shared from ingest to commit and by check, exclusively by gc."""
        return Lock(self.fd, LOCKS + b"/" + OBJECTS_LOCK)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Layout:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_volume(path: str | os.PathLike[str]) -> bool:
    """Tells whether a directory looks like a volume, without opening it."""
    return os.path.isfile(os.path.join(os.fspath(path), os.fsdecode(CONFIG)))


def _check_own(path: str, fd: int) -> None:
    """Raises VolumeError if other users made or can change the volume: its symlinks could lead anywhere."""
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise VolumeError(
            f"{path} belongs to another user (uid {found.st_uid}): only its owner may use a volume"
        )
    if found.st_mode & 0o007:
        raise VolumeError(f"{path} is open to other users, who could read all of it: run chmod o= {path}")
    misplaced = [name for name in DIRECTORIES if not _may_be_directory(fd, name)]
    if not misplaced:
        for name in (BLOBS, TREES):
            with contextlib.suppress(FileNotFoundError), durable.directory(fd, name) as root:
                misplaced += [name + b"/" + shard for shard in shards.misplaced(root)]
    if misplaced:
        raise VolumeError(f"cannot open the volume {path}: '{os.fsdecode(misplaced[0])}' is not a directory")


def _may_be_directory(fd: int, name: bytes) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    return True


def _open_root(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotAVolume(path, "there is no such directory; 'artfs init' makes a volume") from None
    except NotADirectoryError:
        raise NotAVolume(path, "it is not a directory") from None
    except PermissionError:
        raise VolumeError(f"no permission to read {path}: only its owner may use a volume") from None


def _read_config(path: str, fd: int) -> VolumeConfig:
    try:
        data = durable.read(fd, CONFIG)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            os.stat(UNFINISHED, dir_fd=fd)
            raise NotAVolume(path, "its init was cut short; run 'artfs init' again to complete it") from None
        raise NotAVolume(path) from None
    except PermissionError:
        raise VolumeError(
            f"no permission to read {path}/artfs.json: only its owner may use a volume"
        ) from None
    except OSError as error:
        raise NotAVolume(path, f"artfs.json can't be read: {error.strerror}") from None
    try:
        # The format first: a newer one may have changed the meaning of all other keys.
        version = msgspec.json.decode(data, type=dict[str, object]).get("format")
        if isinstance(version, int) and version > FORMAT:
            raise VolumeTooNew(path, version, FORMAT)
        config = msgspec.json.decode(data, type=VolumeConfig)
        Algorithm.named(config.hash)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NotAVolume(path, f"artfs.json is damaged: {error}") from None
    if not _OLDEST <= config.format <= FORMAT:
        raise NotAVolume(path, f"artfs.json has the unknown format {config.format}")
    return config


def _make(path: str, fd: int, algorithm: Algorithm) -> None:
    probe.sweep(fd)
    names = {os.fsencode(name) for name in os.listdir(fd)} - {durable.LOCK_FILE}
    if CONFIG in names:
        raise VolumeExists(path, "it is a volume already")
    if names and UNFINISHED not in names:
        raise VolumeExists(path, "the directory is not empty")
    try:
        probe.check(path, fd, exists=False)
        os.fchmod(fd, 0o700)
        # Without a temp: after a crash the directory would not look empty.
        durable.step("init-marker:create")
        os.close(
            os.open(UNFINISHED, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        )
        durable.sync_dir(fd, label="init-marker")
        for name in DIRECTORIES:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=fd)
        # A mount shows it as its root; the volume's own mode keeps others out.
        os.chmod(COLLECTIONS, 0o755, dir_fd=fd)
        with durable.directory(fd, OBJECTS) as objects_fd:
            durable.sync_dir(objects_fd, label="init-objects")
        durable.sync_dir(fd, label="init-directories")
        config = VolumeConfig(
            format=FORMAT, hash=algorithm.label, id=str(uuid.uuid4()), created_at=timestamp()
        )
        durable.create(fd, CONFIG, encode_config(config), label="init-config")
        durable.remove(fd, UNFINISHED, label="init-done")
    except PermissionError:
        raise VolumeError(
            f"no permission to create a volume at {path}: the directory must be yours"
        ) from None


def _sync_parent(path: str) -> None:
    try:
        parent = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):  # the directory may be writable but not readable
            return
        raise
    with durable.closing(parent):
        durable.sync_dir(parent, label="init-root")


def catalog_directories(layout: Layout) -> Iterator[bytes]:
    """Yields the directories, besides those of objects, in which small files are written as temps first.

    As paths from the volume's root: fixed ones, and those of each collection down to a pending version's
    state, never its tree.
    """
    yield from (b".", LOCKS, DAMAGED, COLLECTIONS, RUNS, LOGS)
    for collection in _subdirectories(layout.fd, COLLECTIONS):
        yield collection
        for child in _subdirectories(layout.fd, collection):
            yield child
            if child.rpartition(b"/")[2] == b"pending":
                for pending in _subdirectories(layout.fd, child):
                    yield from (pending, pending + b"/runs")


def _subdirectories(dir_fd: int, path: bytes) -> list[bytes]:
    try:
        with durable.directory(dir_fd, path) as fd, os.scandir(fd) as entries:
            names = [os.fsencode(e.name) for e in entries if e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [path + b"/" + name for name in sorted(names)]
