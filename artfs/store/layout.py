"""Where everything of a volume stands, and how one is made and opened.

Owns: the names at the top of a volume, artfs.json, the checks at opening. Must not know what collections,
runs and pending trees hold. Any thread may call it. FORMAT.md is the authority on the bytes.
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

from artfs.errors import NotAVolume, UnfitFilesystem, VolumeError, VolumeExists, VolumeTooNew
from artfs.model.digest import Algorithm
from artfs.store import durable, probe, shards
from artfs.store.documents import timestamp
from artfs.store.locks import Lock

FORMAT, _OLDEST = 2, 1
CONFIG = b"artfs.json"
# Stands from the first to the last moment of init. It has a temp's name, so that one left beside a finished
# artfs.json is swept like any other.
UNFINISHED = durable.TEMP_PREFIX + b"init"

LOCKS, OBJECTS, DAMAGED, COLLECTIONS, RUNS, LOGS, TRASH = (
    b"locks",
    b"objects",
    b"damaged",
    b"collections",
    b"runs",
    b"logs",
    b"trash",
)
BLOBS, TREES = b"objects/blobs", b"objects/trees"
DIRECTORIES = (LOCKS, OBJECTS, BLOBS, TREES, DAMAGED, COLLECTIONS, RUNS, LOGS, TRASH)
SERIAL = b"serial"
MOUNT_LOCK, OBJECTS_LOCK, SUPERVISOR_LOCK = b"mount", b"objects", b"supervisor"


class Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What artfs.json says; unknown keys are let pass.

    ``upgrading_from`` is an older format while what lies in the volume may still be of that.
    """

    format: int
    hash: str
    id: str
    created_at: str
    upgrading_from: int | None = None


def encode_config(config: Config) -> bytes:
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


class Layout:
    """An open volume's root directory and what artfs.json says of it.

    ``fd`` stays open until :meth:`close`; everything in the volume is reached from it, so the volume may be
    renamed meanwhile. ``path`` is for messages.
    """

    def __init__(self, path: str, fd: int, config: Config) -> None:
        self.path, self.fd, self.config = path, fd, config
        self.algorithm = Algorithm.named(config.hash)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Layout:
        """Opens a volume.

        Raises NotAVolume (nothing there, no artfs.json, half made, unreadable JSON), VolumeTooNew, and
        VolumeError when it may not be read, or belongs or is open to others.
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
        """Makes a volume in a new or empty directory, durably, or completes one that was half made.

        Raises VolumeExists for a volume, for a directory that holds anything else, and for a file;
        VolumeError if no directory can be made there; UnfitFilesystem, and then nothing has changed.
        artfs.json is written last: what is not whole is no volume.
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
            raise VolumeError(f"can't make a volume at {path}: {why}") from None
        except PermissionError:
            raise VolumeError(f"{path}: no permission to make a directory there") from None
        # Also of one that is there: who made it may have been killed before this.
        _sync_parent(path)
        fd = _open_root(path)
        try:
            with probe.locked(path, fd, exists=False):
                _make(path, fd, algorithm)
            return cls(path, fd, _read_config(path, fd))
        except UnfitFilesystem:
            os.close(fd)
            if made:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            raise
        except BaseException:
            os.close(fd)
            raise

    @property
    def format(self) -> int:
        return self.config.format

    @property
    def id(self) -> str:
        return self.config.id

    @property
    def created_at(self) -> str:
        return self.config.created_at

    @property
    def is_current(self) -> bool:
        """Tells whether the volume is of the present format, with all that lies in it."""
        return self.config.format == FORMAT and self.config.upgrading_from is None

    def begin_upgrade(self) -> None:
        """Notes, durably, that the volume is of the present format, and what lies in it may not be."""
        if self.config.format != FORMAT:
            config = replace(self.config, format=FORMAT, upgrading_from=self.config.format)
            durable.replace(self.fd, CONFIG, encode_config(config), label="upgrade-begin")
            self.config = config

    def end_upgrade(self) -> None:
        """Notes, durably, that all that lies in the volume is of the present format."""
        config = replace(self.config, upgrading_from=None)
        durable.replace(self.fd, CONFIG, encode_config(config), label="upgrade-end")
        self.config = config

    def read_again(self) -> None:
        """Reads artfs.json anew, which another process may have replaced. Raises as :meth:`open` does."""
        self.config = _read_config(self.path, self.fd)

    def check_filesystem(self) -> list[probe.Finding]:
        """Tries whether the filesystem does what a volume needs, and returns what it found.

        Raises UnfitFilesystem. A volume may have come to another filesystem since it was made, or be seen
        through one.
        """
        with probe.locked(self.path, self.fd, exists=True):
            return probe.check(self.path, self.fd, exists=True)

    def open_directory(self, name: bytes) -> int:
        """Opens one of :data:`DIRECTORIES`, or one below; the caller closes it."""
        return durable.open_directory(self.fd, name)

    def directory(self, name: bytes) -> contextlib.AbstractContextManager[int]:
        """Opens one of :data:`DIRECTORIES` for the time of a with block."""
        return durable.directory(self.fd, name)

    @property
    def mount_lock(self) -> Lock:
        """Held exclusively by the daemon that serves the volume."""
        return Lock(self.fd, LOCKS + b"/" + MOUNT_LOCK)

    @property
    def supervisor_lock(self) -> Lock:
        """Held exclusively by the process that brings a mount of the volume back."""
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
    """Raises VolumeError for what others can change or have made: their symlinks could lead us anywhere."""
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        raise VolumeError(
            f"{path} belongs to another user (uid {found.st_uid}): only its owner may use a volume"
        )
    if found.st_mode & 0o007:
        raise VolumeError(f"{path} is open to others, who would see all that it holds: chmod o= {path}")
    strange = [name for name in DIRECTORIES if not _may_be_directory(fd, name)]
    if not strange:
        for name in (BLOBS, TREES):
            with contextlib.suppress(FileNotFoundError), durable.directory(fd, name) as root:
                strange += [name + b"/" + shard for shard in shards.strangers(root)]
    if strange:
        raise VolumeError(f"{path}: '{os.fsdecode(strange[0])}' is no directory, so it is no sound volume")


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
        raise VolumeError(f"{path}: no permission to read it; a volume belongs to one user") from None


def _read_config(path: str, fd: int) -> Config:
    try:
        data = durable.read(fd, CONFIG)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            os.stat(UNFINISHED, dir_fd=fd)
            raise NotAVolume(path, "its init was cut short; run 'artfs init' again to complete it") from None
        raise NotAVolume(path) from None
    except PermissionError:
        raise VolumeError(f"{path}: no permission to read artfs.json; a volume belongs to one user") from None
    except OSError as error:
        raise NotAVolume(path, f"artfs.json can't be read: {error.strerror}") from None
    try:
        # The format first: a newer one may have changed the meaning of all other keys.
        version = msgspec.json.decode(data, type=dict[str, object]).get("format")
        if isinstance(version, int) and version > FORMAT:
            raise VolumeTooNew(path, version, FORMAT)
        config = msgspec.json.decode(data, type=Config)
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
        # Without a temp, which would make the directory look like somebody's after a crash.
        durable.step("init-marker:create")
        os.close(
            os.open(UNFINISHED, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        )
        durable.sync_dir(fd, label="init-marker")
        for name in DIRECTORIES:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=fd)
        # What a mount shows as its root; the volume around it is closed to others.
        os.chmod(COLLECTIONS, 0o755, dir_fd=fd)
        with durable.directory(fd, OBJECTS) as objects_fd:
            durable.sync_dir(objects_fd, label="init-objects")
        durable.sync_dir(fd, label="init-directories")
        config = Config(format=FORMAT, hash=algorithm.label, id=str(uuid.uuid4()), created_at=timestamp())
        durable.create(fd, CONFIG, encode_config(config), label="init-config")
        durable.remove(fd, UNFINISHED, label="init-done")
    except PermissionError:
        raise VolumeError(f"{path}: no permission to make a volume there; it must belong to you") from None


def _sync_parent(path: str) -> None:
    try:
        parent = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):  # a directory may be writable and not readable
            return
        raise
    try:
        durable.sync_dir(parent, label="init-root")
    finally:
        os.close(parent)


def catalog_directories(layout: Layout) -> Iterator[bytes]:
    """Yields the directories, besides the objects', in which small files are written by way of temps.

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
