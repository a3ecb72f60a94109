"""Runs: one JSON file for each, with what a job read and wrote.

Owns ``runs/``. Must not know collections: inputs and outputs are texts like ``model:v3``. Blocking; any
thread may call it, and several processes work on the same run.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from artfs.catalog import records, small_files
from artfs.errors import AlreadyExists, Damaged, InvalidCommand, InvalidName, RunNotFound
from artfs.store import durable
from artfs.store.documents import timestamp
from artfs.store.owners import Owner

MAX_ID = 200
"""Bytes of a run's id. The name of its file has a suffix, and that of a temp is longer still."""

MAX_BYTES = 1 << 20
"""Bytes of a run's file."""

_SUFFIX = ".json"


class RecordedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One job. ``state`` is ``running`` until it ends, then ``finished``, ``failed`` or another word.

    ``owner`` is the uid of the user who made it through a mount. ``processes`` are those in which it runs: it
    is ``crashed`` once all of them are known to have died without ending it. ``config`` and ``summary`` are
    JSON objects, the parameters and the results; ``notes`` is free text.
    """

    id: str
    project: str | None = None
    group: str | None = None
    job_type: str | None = None
    host: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    state: str = "running"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    owner: records.Owner | None = None
    processes: tuple[Owner, ...] = ()
    entity: str | None = None
    name: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}


_FREE_TEXT = {"notes"}
"""Keys whose text may have several lines."""

_ADDED = ("inputs", "outputs", "config", "summary")
"""Keys whose value is added to the present one, since each process may know a part of it."""

_SETTABLE = {*RecordedRun.__struct_fields__} - {"owner", "processes"}

RUNNING, CRASHED = "running", "crashed"


def check_run_id(run: str) -> str:
    """Returns the id if it is legal: a word that is a file name and does not begin with a dot."""
    try:
        records.check_word("the id of a run", run)
    except InvalidCommand as error:
        raise InvalidName("a run", run, str(error)) from None
    if "/" in run or run.startswith(".") or len(run.encode()) > MAX_ID:
        raise InvalidName("a run", run, f"it has at most {MAX_ID} bytes, no '/' and no dot at its beginning")
    return run


class RunCatalog:
    def __init__(self, runs_fd: int) -> None:
        """``runs_fd`` is the directory; it must stay open while this is used."""
        self._fd = runs_fd

    def ids(self) -> list[str]:
        """Returns the ids of all runs, sorted. Other files are left out."""
        return sorted(run for name in durable.names(self._fd) if (run := _run(name)) is not None)

    def problems(self) -> Iterator[Damaged]:
        """Yields the files that are damaged or don't belong there."""
        for name in sorted(map(os.fsencode, durable.names(self._fd))):
            run = None if small_files.is_internal(name) else _run(os.fsdecode(name))
            try:
                if run is not None:
                    self._read(run)
                elif not small_files.is_internal(name):
                    yield Damaged(small_files.shown(b"runs", name), "no such file belongs there")
            except Damaged as error:
                yield error

    def exists(self, run: str) -> bool:
        """Tells whether the file of a run exists, whatever its content. Raises InvalidName."""
        return small_files.identity(self._fd, _file(check_run_id(run))) is not None

    def read(self, run: str) -> RecordedRun:
        """Returns a run; a crash shows even if it was not recorded yet. Raises RunNotFound, Damaged."""
        found = self._read(check_run_id(run))
        if found is None:
            raise RunNotFound(run)
        return replace(found, state=CRASHED) if _crashed(found) else found

    def record_crashes(self, *, dry_run: bool = False) -> list[str]:
        """Records durably which runs have crashed; returns their ids. With `dry_run` only returns them."""
        found = []
        for run in self.ids():
            with contextlib.suppress(Damaged, RunNotFound):
                known = self._read(run)
                if known is not None and _crashed(known):
                    if not dry_run:
                        self.change(run, _with_crash)
                    found.append(run)
        return found

    def create(self, run: RecordedRun) -> RecordedRun:
        """Makes a run durably; it starts now unless it has a time. Raises AlreadyExists, InvalidName."""
        run = _checked(run if run.started_at else replace(run, started_at=timestamp()))
        if not durable.create(self._fd, _file(run.id), _encoded(run), label="run"):
            raise AlreadyExists(f"the run '{run.id}' exists already")
        return run

    def apply(
        self, run: str, document: Mapping[str, Any], *, by: int = 0, process: Owner | None = None
    ) -> RecordedRun:
        """Makes or updates a run from a JSON object with any of a run's keys, and returns it.

        Inputs, outputs and keys of config and summary are added to the present ones; null removes a key of
        the summary; other values are replaced. The same object again changes nothing. With a `process` the
        state is that of the run in this process: the run ends with the last of its processes. Raises
        InvalidName, InvalidCommand, and PermissionError unless the run belongs to the user `by` or that is
        root.
        """
        check_run_id(run)
        try:
            given = msgspec.convert({**document, "id": document.get("id", run)}, RecordedRun)
        except (msgspec.ValidationError, TypeError) as error:
            raise InvalidCommand(f"not the JSON of a run: {error}") from None
        if unknown := sorted(document.keys() - _SETTABLE):
            raise InvalidCommand(f"a run has no {', '.join(unknown)}")
        if given.id != run:
            raise InvalidCommand(f"the JSON of run '{run}' says it is '{given.id}'")
        plain = {key: getattr(given, key) for key in document if key not in _ADDED}

        def change(before: RecordedRun | None) -> RecordedRun:
            after = before or RecordedRun(id=run, started_at=timestamp())
            if by and after.owner not in (None, by):
                raise PermissionError(
                    errno.EACCES, f"the run '{run}' belongs to another user: use another id"
                )
            summary = {**after.summary, **given.summary}
            new = replace(
                after,
                **plain,
                inputs=_union(after.inputs, given.inputs),
                outputs=_union(after.outputs, given.outputs),
                config={**after.config, **given.config},
                summary={key: value for key, value in summary.items() if value is not None},
            )
            return new if process is None else _in_process(after, new, process)

        return self._change(run, change)

    def record_input(self, run: str, version: str) -> RecordedRun:
        """Records durably that the run read a version. Raises RunNotFound."""
        return self.change(run, lambda before: replace(before, inputs=_union(before.inputs, (version,))))

    def record_output(self, run: str, version: str) -> RecordedRun:
        """Records durably that the run made a version. Raises RunNotFound."""
        return self.change(run, lambda before: replace(before, outputs=_union(before.outputs, (version,))))

    def end(self, run: str, state: str = "finished") -> RecordedRun:
        """Records durably that the run ends now. Raises RunNotFound."""
        return self.change(run, lambda before: replace(before, state=state, ended_at=timestamp()))

    def change(self, run: str, change: Callable[[RecordedRun], RecordedRun]) -> RecordedRun:
        """Replaces a run by what ``change`` makes of it; ``change`` may be called several times."""

        def known(before: RecordedRun | None) -> RecordedRun:
            if before is None:
                raise RunNotFound(run)
            return change(before)

        return self._change(check_run_id(run), known)

    def _change(self, run: str, change: Callable[[RecordedRun | None], RecordedRun]) -> RecordedRun:
        after: RecordedRun | None = None

        def changed(raw: bytes | None) -> bytes | None:
            nonlocal after
            before = self._decode(run, raw)
            after = _checked(change(before))
            data = _encoded(after)
            return raw if after == before else data

        small_files.update(self._fd, _file(run), _what(run), changed, label="run")
        assert after is not None
        return after

    def _read(self, run: str) -> RecordedRun | None:
        return self._decode(run, small_files.read(self._fd, _file(run), _what(run)))

    @staticmethod
    def _decode(run: str, raw: bytes | None) -> RecordedRun | None:
        if raw is None:
            return None
        what = _what(run)
        found = records.decode(raw, RecordedRun, what)
        if found.id != run:
            raise Damaged(what, "it is the file of another run")
        try:
            return _checked(found)
        except InvalidCommand as error:
            raise Damaged(what, str(error)) from None


def _what(run: str) -> str:
    return small_files.shown(b"runs", _file(run))


def _crashed(run: RecordedRun) -> bool:
    ended = (process.alive() is False for process in run.processes)
    return run.state == RUNNING and bool(run.processes) and all(ended)


def _with_crash(run: RecordedRun) -> RecordedRun:
    return replace(run, state=CRASHED, ended_at=timestamp(), processes=()) if _crashed(run) else run


def _in_process(before: RecordedRun, after: RecordedRun, process: Owner) -> RecordedRun:
    """Returns a run after it began or ended in a process."""
    others = tuple(known for known in before.processes if not known.same(process))
    if after.state == RUNNING:
        return replace(after, processes=(*(known for known in others if known.alive() is not False), process))
    if any(known.alive() is not False for known in others):
        return replace(after, state=RUNNING, ended_at=None, processes=others)
    return replace(after, state=CRASHED if others else after.state, processes=())


def _encoded(run: RecordedRun) -> bytes:
    data = records.encode(run)
    check_size(len(data))
    return data


def check_size(size: int) -> None:
    """Raises InvalidCommand for too many bytes of JSON."""
    if size > MAX_BYTES:
        raise InvalidCommand(f"a run has at most {MAX_BYTES} bytes of JSON, not {size}")


def _checked(run: RecordedRun) -> RecordedRun:
    check_run_id(run.id)
    for key, value in msgspec.structs.asdict(run).items():
        if key in _FREE_TEXT:
            records.check_description(value or "")
            continue
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                records.check_line(f"{key} of a run", text)
    return run


def _union(before: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *more)))


def _file(run: str) -> bytes:
    return f"{run}{_SUFFIX}".encode()


def _run(name: str) -> str | None:
    """Returns the id of a run's file; None for any other name."""
    try:
        return check_run_id(name.removesuffix(_SUFFIX)) if name.endswith(_SUFFIX) else None
    except InvalidName:
        return None
