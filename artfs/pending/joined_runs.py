"""The runs that joined a pending version: one file each, with the processes in which the run works on it.

Owns ``runs/`` of a pending version, and when a run has left. Blocking; any thread and several processes may
call it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

import msgspec

from artfs.errors import Busy, DraftNotFoundError, InvalidName, NotJoined, RunsJoined
from artfs.printing import printable
from artfs.store import documents, durable
from artfs.store.documents import timestamp
from artfs.store.owners import Owner

if TYPE_CHECKING:
    from artfs.pending.pending_version import PendingVersion

RUNS = b"runs"


class JoinedRun(msgspec.Struct, frozen=True):
    """A run that has joined; ``left_at`` is None until it leaves.

    It leaves with the last of its ``processes``. If it joined ``by_hand``, it leaves by a command.
    """

    name: str
    joined_at: str
    left_at: str | None = None
    processes: tuple[Owner, ...] = ()
    by_hand: bool = True

    @property
    def killed(self) -> list[Owner]:
        """The processes that are known to have died without leaving."""
        return [process for process in self.processes if process.alive() is False]


class JoinedRuns:
    """The runs of one pending version."""

    def __init__(self, version: PendingVersion) -> None:
        self._version = version

    def all(self) -> list[JoinedRun]:
        """Lists all runs that ever joined, in the order of joining.

        Raises :class:`DraftNotFoundError` if another process ended the pending version.
        """
        try:
            with durable.directory(self._version.fd, RUNS) as fd:
                found = [
                    documents.load(fd, name, JoinedRun, self._version.what(RUNS, name))
                    for name in map(os.fsencode, os.listdir(fd))
                    if not _is_temp(name)
                ]
        except FileNotFoundError:
            raise DraftNotFoundError(self._version.collection, self._version.name) from None
        except OSError as error:
            raise documents.directory_error(error, self._version.what(RUNS)) from None
        return sorted((run for run in found if run), key=lambda run: (run.joined_at, run.name))

    def names(self) -> list[str]:
        """Lists the runs that joined and have not left."""
        return [run.name for run in self.all() if run.left_at is None]

    def refusal(self) -> RunsJoined | None:
        """Returns the error of a finish if runs have not left; None if all have."""
        there = [run for run in self.all() if run.left_at is None]
        killed = [f"{run.name} of {process}" for run in there for process in run.killed]
        return RunsJoined([run.name for run in there], killed) if there else None

    def join(self, run: str, process: Owner | None = None) -> None:
        """Records that a run has joined, until `process` leaves, or by hand.

        Processes of the run that were killed before `process` began are dropped: it replaces them.
        """
        name = _run_file(run)
        with durable.directory_lock(self._version.fd), durable.directory(self._version.fd, RUNS) as fd:
            before = self._run(fd, name)
            processes: list[Owner] = []
            by_hand = process is None
            if before is not None and before.left_at is None:
                processes = [known for known in before.processes if not _gives_way(known, process)]
                by_hand |= before.by_hand
            processes += [] if process is None else [process]
            self._put_run(fd, name, JoinedRun(run, timestamp(), None, tuple(processes), by_hand))

    def leave(self, run: str, process: Owner | None = None) -> None:
        """Records that a run has left: in `process`, or in all processes that are not known to run.

        Raises NotJoined, and Busy if all its processes are running.
        """
        name = _run_file(run)
        with durable.directory_lock(self._version.fd), durable.directory(self._version.fd, RUNS) as fd:
            before = self._run(fd, name)
            if before is None:
                raise NotJoined(run)
            if process is None:
                stay = [known for known in before.processes if known.alive()]
                if stay and not before.by_hand:
                    raise Busy(
                        f"the run '{printable(run)}' is running in {stay[0]}, which leaves when it ends"
                    )
            else:
                stay = [known for known in before.processes if not known.same(process)]
            by_hand = before.by_hand and process is not None
            gone = not (stay or by_hand)
            left_at = before.left_at or (timestamp() if gone else None)
            after = JoinedRun(run, before.joined_at, left_at, tuple(stay), by_hand)
            if after == before:
                durable.confirm(fd, label="runs")
            else:
                self._put_run(fd, name, after)

    def _run(self, fd: int, name: bytes) -> JoinedRun | None:
        return documents.load(fd, name, JoinedRun, self._version.what(RUNS, name))

    @staticmethod
    def _put_run(fd: int, name: bytes, run: JoinedRun) -> None:
        durable.replace(fd, name, msgspec.json.encode(run) + b"\n", label="runs")


def _run_file(run: str) -> bytes:
    name = quote_from_bytes(run.encode("utf-8", "surrogateescape"), safe="").encode()
    if name.startswith(b".") or len(name) > 255:
        raise InvalidName(
            "a run", run, "percent-encoded it must be a file name that does not begin with a dot"
        )
    return name


def _gives_way(known: Owner, process: Owner | None) -> bool:
    """Tells whether `process` replaces a process that joined under the same run."""
    if process is None:
        return False
    return known.same(process) or (process.began_after(known.started_at) and known.alive() is False)


def _is_temp(name: bytes) -> bool:
    return name.startswith(durable.TEMP_PREFIX)
