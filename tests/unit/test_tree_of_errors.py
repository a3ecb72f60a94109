"""Every exception of artfs survives pickling and copying, and is exported under its name."""

from __future__ import annotations

import copy
import errno
import importlib
import pickle
import pkgutil
import traceback
from collections.abc import Iterator

import pytest

import artfs
from artfs import errors
from artfs.cli.main import REFUSED, status_of
from artfs.fuse.errnos import errno_of
from artfs.model import refusals

#: One of each class, with every field set. A class without an example fails the tests.
EXAMPLES: tuple[errors.ArtfsError, ...] = (
    errors.ArtfsError("no"),
    errors.InvalidName("a collection", b"\xff", "it must be UTF-8"),
    errors.InvalidCommand("'x' is no command"),
    errors.NotJoined("r1"),
    errors.TypeMismatch("model", "model", "dataset"),
    errors.CannotSeal([(b"\xffpipe", "fifo"), (b"sock", "socket")]),
    errors.CommError("there is no server"),
    errors.UsageError("it makes no sense"),
    errors.UnsupportedError("artfs has no such thing"),
    errors.NotFound("there is no such thing"),
    errors.CollectionNotFound("model"),
    errors.VersionNotFound("model", "v9"),
    errors.DraftNotFoundError("model", b"job-\xff"),
    errors.AliasNotFound("model", "best"),
    errors.RunNotFound("r1"),
    errors.PathNotFound("model:v0", b"a/\xff"),
    errors.AlreadyExists("it is there already"),
    errors.AlreadyPending("model", b"job"),
    errors.AlreadyFinishedError("model", b"job", "v3"),
    errors.PathConflictError(b"a/\xff", "run-1"),
    errors.Busy("somebody has it"),
    errors.OpenForWriting([errors.Writer(b"a/\xff", 17, "python"), errors.Writer(b"b", 0, "")]),
    errors.NotIdle(),
    errors.NotStored([b"file"]),
    errors.RunsJoined(["run-1", "run-2"]),
    errors.Sealing(),
    errors.BeingFilled(),
    errors.TreeTouched(),
    errors.HeldByAlias("v0", ["best", "prod"]),
    errors.NotEmpty("it has versions"),
    errors.ReadOnly(),
    errors.CutShort(),
    errors.ArtifactFinalizedError("model"),
    errors.ArtifactNotLoggedError("model", "digest"),
    errors.NotPermitted("nobody may"),
    errors.CrossTree(),
    errors.Collision.between("best", "v4", [(b"a/\xff", "changed", "deleted")]),
    errors.Interrupted(),
    errors.LostRace("it was read before"),
    errors.Damaged("blob x", "it is missing"),
    errors.ReferenceFailed("its bytes can't be used"),
    errors.Unreachable("s3://bucket/key?secret", "no answer"),
    errors.Changed("s3://bucket/key", "etag:a", "etag:b"),
    errors.RemoteMissing("s3://bucket/key"),
    errors.VolumeError("it can't be opened"),
    errors.NotAVolume("/x"),
    errors.VolumeExists("/x", "it is a volume already"),
    errors.VolumeTooNew("/x", 9, 1),
    errors.VolumeInUse("/x", "pid 17"),
    errors.UnsupportedFilesystem("/x", "vfat", ["hard links (Operation not permitted)"], exists=True),
    errors.MountError("fusermount3 is not installed"),
)

#: The built-in class that each kind and its subclasses inherit from.
BUILT_INS: dict[type[errors.ArtfsError], type[Exception]] = {
    errors.InvalidName: ValueError,
    errors.PathConflictError: ValueError,
    errors.InvalidCommand: ValueError,
    errors.TypeMismatch: ValueError,
    errors.UsageError: ValueError,
    errors.NotFound: LookupError,
    errors.PathNotFound: KeyError,
    errors.AlreadyExists: FileExistsError,
    errors.VolumeExists: FileExistsError,
    errors.NotPermitted: PermissionError,
    errors.ArtifactFinalizedError: AttributeError,
    errors.ArtifactNotLoggedError: AttributeError,
}

#: Exceptions that pass between two functions of artfs, and never reach a user.
SIGNALS = {
    "artfs.references.remote_store.TransferBroken",
    "artfs.references.remote_store.HeadRefused",
    "artfs.references.remote_store.NoObject",
    "artfs.references.remote_store.RequestFailed",
    "artfs.limits.limit.LimitExceededError",
    "artfs.references.single_flight.Abandoned",
    "artfs.references.local_files._Refused",
    "artfs.store.requirements.Limited",
    "artfs.store.requirements.Unmet",
    "artfs.vfs.node.NoSuchAttribute",
    "artfs.vfs.node.NeedsWork",
}

parametrized = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def _below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def _ours() -> set[type[BaseException]]:
    for module in pkgutil.walk_packages(artfs.__path__, "artfs."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {kind for kind in _below(BaseException) if kind.__module__.partition(".")[0] == "artfs"}


def test_every_class_has_an_example_and_is_exported() -> None:
    ours = _ours()
    tree = {kind for kind in ours if issubclass(kind, errors.ArtfsError)}
    assert {kind.__name__ for kind in tree} == {type(error).__name__ for error in EXAMPLES}
    for kind in tree:
        assert (kind.__module__, getattr(artfs, kind.__name__)) == ("artfs", kind)
        assert kind.__name__ in artfs.__all__
    assert {f"{kind.__module__}.{kind.__qualname__}" for kind in ours - tree} == SIGNALS


@parametrized
@pytest.mark.parametrize("way", [*range(pickle.HIGHEST_PROTOCOL + 1), "copy", "deepcopy"], ids=str)
def test_exceptions_survive_pickling_and_copying(error: errors.ArtfsError, way: int | str) -> None:
    error.add_note("while it was logged")
    try:
        if isinstance(way, int):
            found = pickle.loads(pickle.dumps(error, way))
        else:
            found = getattr(copy, way)(error)
        assert type(found) is type(error)
        assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))
        assert found.__notes__ == ["while it was logged"]
    finally:
        del error.__notes__
    if isinstance(error, OSError):
        assert isinstance(found, OSError)
        assert found.errno == error.errno == errno_of(error)


@parametrized
def test_exceptions_pass_through_a_mount(error: errors.ArtfsError) -> None:
    found = refusals.decoded(refusals.encoded(error))
    assert type(found) is type(error)
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))


def test_os_errors_pass_through_a_mount() -> None:
    found = refusals.decoded(refusals.encoded(OSError(errno.EACCES, "closed to you", b"a/\xff")))
    assert isinstance(found, PermissionError)
    assert (found.errno, found.strerror, found.filename) == (errno.EACCES, "closed to you", "a/\\xff")


@pytest.mark.parametrize(
    "document",
    [
        "",
        "the reason in words",
        "[]",
        '{"error": "Later", "text": "x", "fields": {}}',
        '{"error": "printable", "text": "x", "fields": {}}',
        '{"error": "Any", "text": "x", "fields": {}}',
        '{"error": "Busy", "text": "x", "fields": {"__class__": "y"}}',
        '{"error": "Busy", "text": "x", "fields": []}',
        '{"error": "NotJoined", "text": "x"}',
        '{"error": "OpenForWriting", "text": "x", "fields": {"writers": [{"writer": {"odd": 1}}]}}',
        '{"error": "OSError", "text": "x", "fields": {"errno": "many", "path": null}}',
    ],
)
def test_other_json_becomes_no_exception(document: str) -> None:
    assert refusals.decoded(document) is None


@parametrized
def test_a_traceback_shows_the_exported_name(error: errors.ArtfsError) -> None:
    found = pickle.loads(pickle.dumps(error))
    last = traceback.format_exception(found)[-1]
    assert last == f"artfs.{type(error).__name__}: {error}\n"
    assert "\n" not in str(error)


@parametrized
def test_exceptions_inherit_from_builtins(error: errors.ArtfsError) -> None:
    expected = {built_in for kind, built_in in BUILT_INS.items() if isinstance(error, kind)}
    assert all(isinstance(error, kind) for kind in expected)
    of_builtins = {kind for kind in type(error).__mro__ if kind.__module__ == "builtins"}
    allowed: set[type] = {Exception, *Exception.__mro__}.union(*(kind.__mro__ for kind in expected))
    assert of_builtins == allowed
    assert status_of(error) is not None
    assert isinstance(error, errors.Interrupted) or status_of(error) == REFUSED


def test_subclasses_of_users_survive() -> None:
    found = pickle.loads(pickle.dumps(Theirs(1, key="x")))
    assert (type(found), str(found), found.number, found.key) == (Theirs, "number 1", 1, "x")
    assert Theirs.__module__ == __name__


class Theirs(errors.VersionNotFound):
    def __init__(self, number: int, *, key: str) -> None:
        Exception.__init__(self, f"number {number}")
        self.number, self.key = number, key
