"""Who holds what open in a pending tree, and the instant from which nothing changes any more.

A gate is in one of six states::

    PENDING ──close──> SEALING ──settle──> SEALED, DISCARDED, REPLACED
       ^                │    │
       └─────settle─────┘    └───settle──> COMMITTED ──close──> SEALING

COMMITTED is a seal that was decided and could not be brought to its end (a full disk, say): nothing may
change any more, and the next finish goes on from there; only if the version is deleted it is PENDING again.
REPLACED is a tree that got another base: the
pending version goes on as another tree.

Every change of the tree is made inside ``with gate.change():``, which holds the gate's lock for the length
of a few system calls; so a change lies wholly before or wholly after the instant at which the gate closes.
The lock is never held while hashing, waiting, or talking to the kernel's FUSE side.

Any thread may call everything here; what waits says so.
"""

from __future__ import annotations

import contextlib
import enum
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from artfs.errors import (
    ArtfsError,
    CutShort,
    Interrupted,
    NotStored,
    OpenForWriting,
    ReadOnly,
    RunsJoined,
    Sealing,
    Writer,
)

_POLL = 0.05  # seconds between looks at what no condition variable tells: joined runs, signals to the caller


class State(enum.Enum):
    PENDING = "pending"
    SEALING = "sealing"
    COMMITTED = "committed"
    SEALED = "sealed"
    DISCARDED = "discarded"
    REPLACED = "replaced"


class WritableHandle(Protocol):
    """What the gate needs to know of an open file that can change the tree."""

    def counts(self) -> bool:
        """Tells whether the file is still in the tree: an unlinked one keeps no finish waiting."""

    def writer(self) -> Writer:
        """Says who holds it, for people."""

    def fence(self) -> None:
        """Refuses every later write through this handle. Called with the gate's lock held."""

    def unfence(self) -> None:
        """Lets writes through again, unless they could change sealed bytes. With the gate's lock held."""


class _Change:
    """Holds the gate's lock for one change, or says why there can't be one."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        self._gate._lock.acquire()
        if self._gate.state is not State.PENDING:
            self._gate._lock.release()
            raise self._gate._refusal()

    def __exit__(self, *_: object) -> None:
        self._gate._lock.release()


class Gate:
    """The state of one pending tree and the handles that can change it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._handles: set[WritableHandle] = set()
        self._long_changes = 0
        self._change = _Change(self)
        self.state = State.PENDING

    def change(self) -> _Change:
        """Guards one change of the tree: ``with gate.change(): ...``.

        Raises :class:`Sealing` while a seal is under way, :class:`ReadOnly` after it. Never waits for either.
        """
        return self._change

    @contextlib.contextmanager
    def long_change(self) -> Iterator[None]:
        """Guards a change that waits for the disk: no lock is held meanwhile, and no close comes between.

        Raises as :meth:`change` does.
        """
        with self._lock:
            if self.state is not State.PENDING:
                raise self._refusal()
            self._long_changes += 1
        try:
            yield
        finally:
            with self._moved:
                self._long_changes -= 1
                self._moved.notify_all()

    def writing(self) -> threading.Lock:
        """Guards one write through an open handle: a fence lies before or after it, never inside."""
        return self._lock

    def _refusal(self) -> ArtfsError:
        if self.state in (State.SEALING, State.REPLACED):
            return Sealing()
        if self.state is State.SEALED:
            return ReadOnly()
        if self.state is State.COMMITTED:
            return CutShort()
        return ReadOnly("the pending version was discarded")

    def enter(self, handle: WritableHandle) -> None:
        """Counts a handle. To be called inside :meth:`change`: no close may lie between the open and this."""
        self._handles.add(handle)

    def leave(self, handle: WritableHandle) -> None:
        """Stops counting a handle, in whatever state; never raises."""
        with self._moved:
            self._handles.discard(handle)
            self._moved.notify_all()

    def writers(self) -> list[Writer]:
        """Lists who holds files of the tree open for writing, by path."""
        with self._lock:
            handles = self._counting()
        return _described(handles)

    def _counting(self) -> list[WritableHandle]:
        return [handle for handle in self._handles if handle.counts()]

    def close(
        self,
        wait: float,
        *,
        force: bool = False,
        joined: Callable[[], RunsJoined | None] = lambda: None,
        unwritten: Callable[[], list[bytes]] = list,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> list[WritableHandle]:
        """Waits for the first instant without writers and joined runs, and closes the gate at it.

        Waits `wait` seconds at most, during which changes go on as usual; a seal that is already under way
        is waited for to its end. With `force` the gate closes at once, and the handles that were open are
        returned; they can write until :meth:`fence`.

        Raises :class:`OpenForWriting`, :class:`RunsJoined`, :class:`Interrupted` (when `interrupted` says
        so), :class:`NotStored` (what was written is `unwritten` at that instant), :class:`ReadOnly` (the tree
        was sealed or discarded meanwhile); then nothing has changed.
        """
        deadline = time.monotonic() + wait
        while True:
            runs = None if force else joined()
            with self._moved:
                if self.state in (State.SEALED, State.DISCARDED, State.REPLACED):
                    raise self._refusal()
                if self.state is State.COMMITTED:
                    self.state = State.SEALING
                    return []
                if self.state is State.PENDING and not self._long_changes:
                    open_for_write = self._counting()
                    if force or not (open_for_write or runs):
                        if not force and (paths := unwritten()):
                            raise NotStored(paths)
                        self.state = State.SEALING
                        return open_for_write
                    if time.monotonic() >= deadline:
                        break
                self._moved.wait(_POLL)
            if interrupted():
                raise Interrupted
        if open_for_write or runs is None:
            raise OpenForWriting(_described(open_for_write))
        raise runs

    def fence(self, handles: list[WritableHandle]) -> None:
        """Ends what the handles of a forced close can do: at once, for good, between two writes."""
        with self._lock:
            for handle in handles:
                handle.fence()

    def unfence(self, handles: list[WritableHandle]) -> None:
        """Takes a fence away again, after a seal that failed."""
        with self._lock:
            for handle in handles:
                handle.unfence()

    def settle(self, state: State) -> None:
        """Ends what closed the gate: the tree is sealed, or pending again as if nothing had been tried."""
        with self._moved:
            self.state = state
            self._moved.notify_all()

    def reopen(self) -> None:
        """Notes that what had been decided is not so any more: the version was deleted."""
        with self._moved:
            if self.state is State.COMMITTED:
                self.state = State.PENDING
                self._moved.notify_all()

    def close_now(self) -> None:
        """Closes the gate if nobody writes, without waiting; :meth:`settle` must follow.

        Raises :class:`OpenForWriting`, and as :meth:`change` does.
        """
        with self._lock:
            if self.state is not State.PENDING:
                raise self._refusal()
            open_for_write = self._counting()
            if not open_for_write:
                if self._long_changes:
                    raise Sealing
                self.state = State.SEALING
                return
        raise OpenForWriting(_described(open_for_write))


def _described(handles: list[WritableHandle]) -> list[Writer]:
    """Says who holds the handles. Not under the lock: it asks /proc about each, which takes its time."""
    return sorted((handle.writer() for handle in handles), key=lambda writer: (writer.path, writer.pid))
