"""A refusal is the same exception, with the same text and fields, with a mount and without.

Each row of the table is a call and the exception that it raises; all are tried in each way of ``place``.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import artfs
from artfs.client.interface import Client
from artfs.sdk.connection import connect
from tests.mount.referring import open_to_all
from tests.sdk.conftest import Place, draft_of

Call = Callable[[str], object]


@dataclass(frozen=True)
class Row:
    """``text`` and the values of ``fields`` may hold {name}, {id} and {cwd}."""

    call: Call
    kind: type[Exception]
    text: str
    fields: dict[str, object] = field(default_factory=dict)


ROWS: list[Row] = []
_JOB: dict[str, object] = {"collection": "{name}", "distributed_id": b"job"}


def raises(kind: type[Exception], text: str, **fields: object) -> Callable[[Call], Call]:
    def row(call: Call) -> Call:
        ROWS.append(Row(call, kind, text, fields))
        return call

    return row


def _access() -> Client:
    return connect().client()


def _saved(name: str, kind: str = "dataset", *, alias: str | None = None) -> artfs.Artifact:
    artifact = artfs.Artifact(name, kind)
    with artifact.new_file("a.txt") as file:
        file.write("hello")
    artifact.aliases = [alias] if alias else []
    artifact.save()
    return artifact


@contextlib.contextmanager
def _pending(name: str, **options: Any) -> Iterator[Client]:
    client = _access()
    client.new(name, b"job", **options)
    try:
        yield client
    finally:
        client.discard(name, b"job")


def _finished(name: str) -> Client:
    client = _access()
    client.new(name, b"job")
    client.finish(name, b"job")
    return client


def _put(client: Client, name: str, path: bytes) -> None:
    with client.open_tree(name, b"job") as tree, tree.cursor() as at, at.stage(0o644) as staged:
        at.publish(staged, path, replace=False)


def _here(path: str, text: str = "one") -> str:
    """Makes a file that all users may read, and returns its URI."""
    at = Path.cwd() / path
    at.parent.mkdir(exist_ok=True)
    at.write_text(text)
    return f"file://{at}"


# -- what does not exist


@raises(artfs.CollectionNotFound, "there is no collection '{name}'", name="{name}")
def no_collection(name: str) -> None:
    artfs.Api().artifact(f"{name}:v9")


@raises(artfs.VersionNotFound, "'{name}' has no version or alias 'v9'", collection="{name}", version="v9")
def no_version(name: str) -> None:
    _saved(name)
    artfs.Api().artifact(f"{name}:v9")


@raises(artfs.VersionNotFound, "'{name}' has no version or alias 'v0'", collection="{name}", version="v0")
def a_version_that_was_deleted(name: str) -> None:
    artifact = _saved(name)
    artifact.delete()
    artifact.delete()


@raises(artfs.AliasNotFound, "'{name}' has no alias 'best'", collection="{name}", alias="best")
def no_alias(name: str) -> None:
    _saved(name)
    _access().unalias(name, ["best"])


@raises(artfs.RunNotFound, "there is no run 'nobody'", run="nobody")
def no_run(_name: str) -> None:
    artfs.Api().run("nobody")


@raises(artfs.DraftNotFoundError, "'{name}' has no pending version 'job'", **_JOB)
def no_draft_of_a_distributed_id(name: str) -> None:
    with artfs.init() as run:
        run.finish_artifact(artfs.Artifact(name, "dataset"), distributed_id="job")


@raises(artfs.DraftNotFoundError, "'{name}' has no pending version 'job'", **_JOB)
def nothing_to_discard(name: str) -> None:
    _saved(name)
    _access().discard(name, b"job")


@raises(TypeError, "distributed_id is needed, as the run has no group")
def no_distributed_id(name: str) -> None:
    with artfs.init() as run:
        run.upsert_artifact(artfs.Artifact(name, "dataset"))


@raises(artfs.PathNotFound, "{name}:v0 has no 'd/x'", where="{name}:v0", path=b"d/x")
def no_path(name: str) -> None:
    _saved(name).open("d/x")


@raises(artfs.PathNotFound, "{name} has no 'd/x'", where="{name}", path=b"d/x")
def no_path_in_a_draft(name: str) -> None:
    artifact = draft_of(name, x=b"1")
    artifact.open("d/x")


@raises(artfs.InvalidCommand, "'d' is a directory, not a file")
def a_directory_is_opened(name: str) -> None:
    artifact = draft_of(name, d__x=b"1")
    artifact.save()
    artifact.open("d")


@raises(artfs.InvalidCommand, "'d' is a directory, not a file")
def a_directory_of_a_draft_is_opened(name: str) -> None:
    artifact = draft_of(name, d__x=b"1")
    artifact.open("d")


@raises(FileNotFoundError, "the artifact has no 'd/x'")
def nothing_to_remove(name: str) -> None:
    _saved(name).new_draft().remove("d/x")


@raises(artfs.CollectionNotFound, "there is no collection '{name}-none'", name="{name}-none")
def the_base_is_of_no_collection(name: str) -> None:
    _access().new(name, b"job", base=f"{name}-none:v0")


@raises(artfs.VersionNotFound, "'{name}' has no version or alias 'v9'", collection="{name}", version="v9")
def the_base_is_no_version(name: str) -> None:
    _saved(name)
    _access().new(name, b"job", base="v9")


@raises(artfs.CollectionNotFound, "there is no collection '{name}-none'", name="{name}-none")
def a_difference_to_no_collection(name: str) -> None:
    _saved(name)
    _access().diff(name, "v0", f"{name}-none:v0")


@raises(artfs.VersionNotFound, "'{name}' has no version or alias 'v9'", collection="{name}", version="v9")
def a_difference_to_no_version(name: str) -> None:
    _saved(name)
    _access().diff(name, "v0", "v9")


# -- what exists already


@raises(
    artfs.TypeMismatch,
    "'{name}' has versions of the type 'dataset': its type can't be 'model';"
    " use that type, or another collection",
    collection="{name}",
    type="dataset",
    wanted="model",
)
def another_type(name: str) -> None:
    _saved(name)
    artfs.Artifact(name, "model").add({"x": 1}, "x")


@raises(
    artfs.TypeMismatch,
    "'{name}' has versions without a type: its type can't be 'model'; use none, or another collection",
    collection="{name}",
    type="",
    wanted="model",
)
def a_type_where_there_is_none(name: str) -> None:
    _finished(name)
    artfs.Artifact(name, "model").add({"x": 1}, "x")


@raises(artfs.AlreadyPending, "'job' of '{name}' is pending already", **_JOB)
def started_twice(name: str) -> None:
    with _pending(name) as client:
        client.new(name, b"job")


_FINISHED = "'job' of '{name}' is finished: it is v0; start another id"


@raises(artfs.AlreadyFinishedError, _FINISHED, **_JOB, version="v0")
def started_after_the_finish(name: str) -> None:
    _finished(name).new(name, b"job")


@raises(artfs.AlreadyFinishedError, _FINISHED, **_JOB, version="v0")
def filled_after_the_finish(name: str) -> None:
    with _finished(name).open_tree(name, b"job"):
        pass


@raises(artfs.AlreadyFinishedError, _FINISHED, **_JOB, version="v0")
def joined_after_the_finish(name: str) -> None:
    _finished(name).join(name, b"job", "r1")


@raises(
    artfs.PathConflictError,
    "'d/x' exists with other content: run '{name}-1' added it; overwrite=True replaces it",
    path="d/x",
    run="{name}-1",
)
def other_bytes_of_another_run(name: str) -> None:
    with _pending(name, kind="dataset"):
        for number in (1, 2):
            with artfs.init(id=f"{name}-{number}") as run:
                artifact = draft_of(name, d__x=b"%d" % number)
                run.upsert_artifact(artifact, distributed_id="job")


@raises(
    artfs.PathConflictError, "'x' exists with other content; overwrite=True replaces it", path="x", run=None
)
def another_file_of_a_name(name: str) -> None:
    artifact = draft_of(name, x=b"1")
    _here("x")
    artifact.add_file("x")


@raises(
    artfs.InvalidCommand, "cannot create the directory 'k': 'k' is a file in this version; remove it first"
)
def a_directory_where_a_file_is(name: str) -> None:
    artifact = draft_of(name, k=b"1")
    artifact.add(b"2", "k/x")


@raises(artfs.AlreadyExists, "'x' exists already: remove it first")
def another_reference_of_a_name(name: str) -> None:
    with _pending(name) as client:
        _put(client, name, b"x")
        client.add_reference(name, b"job", b"x", _here("y"))


@raises(
    artfs.HeldByAlias, "v0 is held by: best; move or remove the alias first", version="v0", aliases=("best",)
)
def a_version_with_an_alias_is_deleted(name: str) -> None:
    _saved(name, alias="best").delete()


@raises(artfs.NotEmpty, "'{name}' has pending versions: finish or discard them first")
def a_collection_with_a_draft_is_deleted(name: str) -> None:
    with _pending(name) as client:
        client.remove_collection(name)


@raises(artfs.NotEmpty, "'{name}' has versions (1): remove them first")
def a_collection_with_a_version_is_deleted(name: str) -> None:
    _saved(name)
    _access().remove_collection(name)


# -- what the state forbids


@raises(artfs.RunsJoined, "runs have joined and not left: r1, r2", runs=("r1", "r2"), killed=())
def finished_while_runs_are_at_it(name: str) -> None:
    with _pending(name) as client:
        client.join(name, b"job", "r1")
        client.join(name, b"job", "r2")
        client.finish(name, b"job", wait=0.1)


@raises(artfs.NotIdle, "it is in use: it changed lately, or a run has joined it")
def discarded_if_idle(name: str) -> None:
    with _pending(name) as client:
        client.discard(name, b"job", idle=1000.0)


@raises(artfs.TreeTouched, "the tree was changed already: set its base before you change anything")
def a_base_after_the_first_file(name: str) -> None:
    _saved(name)
    with _pending(name) as client:
        _put(client, name, b"x")
        client.set_base(name, b"job", "v0")


@raises(
    artfs.Collision,
    "'latest' is v1 now, and both sides changed: x (added here, added there); make each path what you"
    " want, then write 'latest' to .artfs/base again (artfs rebase), which keeps your changes, and finish",
    paths=((b"x", "added", "added"),),
)
def both_sides_changed_a_path(name: str) -> None:
    _saved(name)
    with _pending(name, base="latest") as client:
        _put(client, name, b"x")
        theirs = draft_of(name, x=b"2")
        theirs.save()
        client.finish(name, b"job")


@raises(
    artfs.CannotSeal,
    "a version can't hold these, remove them first: d/pipe (fifo)",
    entries=((b"d/pipe", "fifo"),),
)
def a_fifo_is_sealed(name: str) -> None:
    with _pending(name) as client:
        with client.open_tree(name, b"job") as tree, tree.cursor() as at:
            at.make_directory(b"d", 0o755)
            at.enter(b"d")
            os.mkfifo(b"pipe", dir_fd=at.fd)  # type: ignore[attr-defined]
        client.finish(name, b"job")


@raises(
    artfs.ArtifactFinalizedError,
    "the artifact '{name}' was saved: change its new_draft() instead",
    artifact="{name}",
)
def a_saved_artifact_is_changed(name: str) -> None:
    _saved(name).add(b"1", "y")


@raises(
    artfs.ArtifactNotLoggedError,
    "the artifact '{name}' has no digest before it is logged or saved",
    artifact="{name}",
    what="digest",
)
def a_draft_has_no_digest(name: str) -> None:
    _ = artfs.Artifact(name, "dataset").digest


# -- invalid arguments


@raises(
    artfs.InvalidName,
    "'v7' can't name an alias: v and digits name versions",
    what="an alias",
    name="v7",
    rule="v and digits name versions",
)
def an_alias_like_a_version(name: str) -> None:
    _saved(name)
    _access().alias(name, "v0", ["v7"])


@raises(
    artfs.InvalidCommand, "a ttl is a number of whole seconds, 'none' for ever, or null: the collection's"
)
def a_ttl_of_words(name: str) -> None:
    _saved(name)
    _access().relabel(name, "v0", {"ttl": "soon"})


@raises(artfs.InvalidCommand, r"a description is valid UTF-8: '\udcff'")
def a_description_of_no_characters(name: str) -> None:
    _saved(name)
    _access().relabel(name, "v0", {"description": "\udcff"})


@raises(artfs.InvalidCommand, "a run has no statx")
def a_run_with_an_unknown_fact(name: str) -> None:
    _access().record_run(name, {"statx": 17})


@raises(
    TypeError,
    "metadata['a'] is of the type object, which JSON has not: use text, a number, a list or a dictionary",
)
def metadata_that_says_nothing(name: str) -> None:
    artfs.Artifact(name, "dataset", metadata={"a": object()})


@raises(
    TypeError,
    "metadata['a'] is of the type generator, which JSON has not: use text, a number, a list or a dictionary",
)
def metadata_that_is_a_generator(name: str) -> None:
    artfs.Artifact(name, "dataset", metadata={"a": (number for number in range(3))})


@raises(
    TypeError,
    "metadata['a']['b'][0] is of the type lock, which JSON has not:"
    " use text, a number, a list or a dictionary",
)
def metadata_that_becomes_none(name: str) -> None:
    artifact = _saved(name)
    artifact.metadata["a"] = {"b": [threading.Lock()]}
    artifact.save()


# -- references


@raises(
    artfs.Unreachable,
    "file:///no/such/file can't be fetched: there is no such file",
    uri="file:///no/such/file",
    why="there is no such file",
)
def nothing_to_refer_to(name: str) -> None:
    artfs.Artifact(name, "dataset").add_reference("file:///no/such/file")


@raises(
    artfs.Unreachable,
    "artfs://{name}-s:v0/x can't be fetched: {name}-s:v0 has no such path",
    uri="artfs://{name}-s:v0/x",
    why="{name}-s:v0 has no such path",
)
def nothing_to_refer_to_in_a_version(name: str) -> None:
    _saved(f"{name}-s")
    artfs.Artifact(name, "dataset").add_reference(f"artfs://{name}-s:v0/x")


@raises(artfs.CollectionNotFound, "there is no collection '{name}-s'", name="{name}-s")
def no_collection_to_refer_to(name: str) -> None:
    artfs.Artifact(name, "dataset").add_reference(f"artfs://{name}-s:v0/x")


@raises(ValueError, "uri: file://{cwd}/d has more than 2 objects: add a part of it, or raise max_objects")
def more_references_than_wanted(name: str) -> None:
    for number in range(3):
        _here(f"d/{number}")
    artfs.Artifact(name, "dataset").add_reference(f"file://{Path.cwd()}/d", max_objects=2)


_MISSING = "file://{cwd}/x can't be fetched: there is no such file"
_GONE: dict[str, Any] = {"uri": "file://{cwd}/x", "why": "there is no such file"}


def _refers_to_a_missing_file(name: str, *, save: bool = True) -> artfs.Artifact:
    artifact = artfs.Artifact(name, "dataset")
    artifact.add_reference(_here("x"))
    if save:
        artifact.save()
    os.unlink("x")
    return artifact


@raises(artfs.Unreachable, _MISSING, **_GONE)
def what_was_referred_to_is_gone(name: str) -> None:
    _refers_to_a_missing_file(name).open("x")


@raises(artfs.Unreachable, _MISSING, **_GONE)
def what_a_draft_refers_to_is_gone(name: str) -> None:
    _refers_to_a_missing_file(name, save=False).open("x")


@raises(artfs.Unreachable, _MISSING, **_GONE)
def what_is_downloaded_is_gone(name: str) -> None:
    _refers_to_a_missing_file(name).download("out")


@raises(
    artfs.Changed,
    "file://{cwd}/x has changed: recorded: 3 bytes; found: 5 bytes",
    uri="file://{cwd}/x",
    expected="3 bytes",
    found="5 bytes",
)
def what_was_referred_to_is_another(name: str) -> None:
    artifact = artfs.Artifact(name, "dataset")
    artifact.add_reference(_here("x", "one"))
    artifact.save()
    _here("x", "other")
    artifact.open("x")


def _filled(value: Any, values: dict[str, str]) -> Any:
    """Inserts the values of one test into a text."""
    if not isinstance(value, str):
        return value
    for key, text in values.items():
        value = value.replace(f"{{{key}}}", text)
    return value


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.call.__name__)
def test_an_error_is_the_same_with_and_without_a_mount(row: Row, name: str, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    values = {"name": name, "cwd": str(tmp_path)}
    with pytest.raises(row.kind) as caught:
        row.call(name)
    error = caught.value
    assert type(error) is row.kind
    assert Exception.__str__(error) == _filled(row.text, values)
    assert vars(error) == {key: _filled(value, values) for key, value in row.fields.items()}


def test_files_open_for_writing_are_named(place: Place, name: str) -> None:
    if not place.mounted:
        pytest.skip("nobody opens a file of a pending version without a mount")
    with _pending(name) as client:
        directory = client.pending_directory(name, b"job")
        assert directory is not None
        with open(directory / "x", "wb"), pytest.raises(artfs.OpenForWriting) as caught:
            client.finish(name, b"job", wait=0.1)
    [writer] = caught.value.writers
    assert (writer.path, writer.pid) == (b"x", os.getpid())


def test_any_value_with_a_text_is_metadata(place: Place, name: str) -> None:
    del place
    given = {"path": Path("/a"), "range": slice(1, 5), "function": os.getcwd, "class": Path, "key": {3: 4}}
    with warnings.catch_warnings(action="error"):
        artifact = artfs.Artifact(name, "dataset", metadata=given)
    assert artifact.metadata == {
        "path": "/a",
        "range": {"slice_start": 1, "slice_step": None, "slice_stop": 5},
        "function": "posix.getcwd",
        "class": "pathlib.Path",
        "key": {"3": 4},
    }
