"""The gate of a pending tree: its handles open for writing, and the instant after which it no longer changes.

A gate is in one of six states::

    PENDING ──close──> SEALING ──settle──> SEALED, DISCARDED, REPLACED
       ^                │    │
       └─────settle─────┘    └───settle──> COMMITTED ──close──> SEALING

COMMITTED is a seal that was decided and could not complete (on a full disk, say): nothing may change any
more, and the next finish continues it. If its version is deleted, the tree is PENDING again. REPLACED is a
tree that got another base: the pending version continues as another tree.

Every change of the tree is made inside ``with gate.change():``, which holds the gate's lock for a few system
calls, so that a change is entirely before or after the instant at which the gate closes. The lock is never
held while hashing, waiting, or notifying the kernel.

Any thread may call everything here; the docstring of a function that waits says so.
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

_POLL = 0.05  # seconds between checks of joined runs and signals, which notify no condition variable


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
        """Tells whether the file is still in the tree: an unlinked file does not delay a finish."""

    def writer(self) -> Writer:
        """Describes the process that holds it."""

    def fence(self) -> None:
        """Refuses every later write through this handle. Called with the gate's lock held."""

    def unfence(self) -> None:
        """Allows writes again, unless they could change sealed bytes. Called with the gate's lock held."""


class _Change:
    """Holds the gate's lock for one change, or raises if the tree can't be changed."""

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
    """The state of one pending tree, and its handles that are open for writing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._handles: set[WritableHandle] = set()
        self._long_changes = 0
        self._change = _Change(self)
        self.state = State.PENDING

    def change(self) -> _Change:
        """Guards one change of the tree: ``with gate.change(): ...``.

        Raises :class:`Sealing` during a seal, and :class:`ReadOnly` after it. Never waits for a seal.
        """
        return self._change

    @contextlib.contextmanager
    def long_change(self) -> Iterator[None]:
        """Guards a change that waits for the disk. No lock is held meanwhile, but the gate can't close.

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
        """Guards one write through an open handle: a fence is set before or after it, never within."""
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
        """Counts a handle. Call it inside :meth:`change`, so that the gate can't close after the open."""
        self._handles.add(handle)

    def leave(self, handle: WritableHandle) -> None:
        """Stops counting a handle, in any state. Never raises."""
        with self._moved:
            self._handles.discard(handle)
            self._moved.notify_all()

    def writers(self) -> list[Writer]:
        """Lists the processes that have files of the tree open for writing, by path."""
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
        """Waits for the first instant without writers and joined runs, and closes the gate.

        It waits at most `wait` seconds, during which changes are allowed; but for a seal under way it waits
        until that ends. With `force` the gate closes at once, and the open handles are returned; they can
        write until :meth:`fence`.

        Raises :class:`OpenForWriting`, :class:`RunsJoined`, :class:`Interrupted` (if `interrupted` returns
        true), :class:`NotStored` (if `unwritten` lists files), :class:`ReadOnly` (if the tree was sealed or
        discarded meanwhile); then nothing has changed.
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
        """Refuses all later writes through the handles of a forced close."""
        with self._lock:
            for handle in handles:
                handle.fence()

    def unfence(self, handles: list[WritableHandle]) -> None:
        """Removes a fence after a failed seal."""
        with self._lock:
            for handle in handles:
                handle.unfence()

    def settle(self, state: State) -> None:
        """Sets the state after a close: the tree has ended, or is pending again as before."""
        with self._moved:
            self.state = state
            self._moved.notify_all()

    def reopen(self) -> None:
        """Makes a COMMITTED tree pending again, since its version was deleted."""
        with self._moved:
            if self.state is State.COMMITTED:
                self.state = State.PENDING
                self._moved.notify_all()

    def close_now(self) -> None:
        """Closes the gate without waiting, if no file is open for writing. :meth:`settle` must follow.

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
    """Describes the holders of handles. Call it without the lock: reading /proc takes time."""
    return sorted((handle.writer() for handle in handles), key=lambda writer: (writer.path, writer.pid))
