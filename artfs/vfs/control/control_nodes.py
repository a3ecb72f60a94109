"""Control directories and files as the kernel sees them, and the rules of reading answers back.

One write(2) is one command. A handle reads a snapshot, taken when it reads from offset 0. After a command it
reads the answer or the reason of the refusal, whatever the offset is. A program reads the class and the
fields of the last refusal on the same handle, of a command or a read, as JSON at ``refusals.OFFSET``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from artfs.errors import ArtfsError, InvalidCommand, NotPermitted, ReadOnly
from artfs.limits.numbers import COMMAND_BYTES, DOCUMENTS
from artfs.model import refusals
from artfs.printing import os_error_text
from artfs.vfs.control.control_file import ControlFile, RemoteStep
from artfs.vfs.control.json_documents import Document
from artfs.vfs.control.snapshot import Snapshot
from artfs.vfs.control.subject import Subject
from artfs.vfs.listings import NamesListing
from artfs.vfs.node import (
    FRESH,
    AttributeChanges,
    Attributes,
    Caller,
    Handle,
    Listing,
    NeedsWork,
    Node,
    Work,
    virtual,
)

_fresh = itertools.count(1)
_REASON_LIMIT = 2000  # characters of a refusal, which may quote the command


class ControlDirectory(Node):
    """`.artfs`: found by name, never listed."""

    __slots__ = ("_files", "ino", "subject")

    def __init__(self, subject: Subject, files: Iterable[ControlFile[Any]]) -> None:
        self.subject, self.ino = subject, virtual(b"control", *subject.key)
        self._files = {file.name.encode(): file for file in files}

    def names(self) -> list[bytes]:
        """Returns the names of all control files here."""
        return list(self._files)

    def attributes(self) -> Attributes:
        return directory_attributes(self.subject, self.ino)

    def lookup(self, name: bytes) -> Node | None:
        file = self._files.get(name)
        return None if file is None else self._node(name, file)

    def _node(self, name: bytes, file: ControlFile[Any]) -> Node:
        own = file.node(self.subject)
        if own is not None:
            return own
        ino = FRESH | next(_fresh) if file.waits else virtual(b"control", *self.subject.key, name)
        return ControlNode(self.subject, file, ino)

    def listing(self, uid: int = 0) -> Listing:
        return NamesListing(self.names, self.lookup, uid)

    def refusal(self) -> NotPermitted:
        return NotPermitted("cannot change '.artfs': it is a control directory")


class ControlNode(Node):
    """A control file."""

    __slots__ = ("file", "ino", "subject")

    def __init__(self, subject: Subject, file: ControlFile[Any], ino: int) -> None:
        self.subject, self.file, self.ino = subject, file, ino

    def attributes(self) -> Attributes:
        mode = self.file.readable(self.subject) | (0o222 if self.file.writable else 0)
        owner = self.subject.granting(writable=self.file.writable)
        return _attributes(self.ino, owner, stat.S_IFREG | mode)

    def change_attributes(
        self, changes: AttributeChanges, handle: Handle | None, caller: Caller
    ) -> Attributes:
        if changes.mode is not None or changes.uid is not None or changes.gid is not None:
            raise self.refusal()
        # A shell's `>` truncates, and touch sets times: both have no effect.
        try:
            return self.attributes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            # With its write cache the kernel sends the time of a write at close(2), whose error users see:
            # for `discard` the pending version is gone by then.
            return Attributes(self.ino, stat.S_IFREG, attr_timeout=0)

    def refusal(self) -> NotPermitted:
        return NotPermitted("cannot change a control file: write commands to it instead")

    def open(self, flags: int, caller: Caller) -> Handle:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            if not self.file.writable:
                raise NotPermitted("cannot write this control file: it can only be read")
            if self.subject.view.read_only:
                raise ReadOnly("the volume is mounted read-only")
        kind = SteppedHandle if self.file.stepped else ControlHandle
        return kind(self.subject, self.file, caller)


class ControlHandle(Handle):
    """One open control file. Runs on worker threads; its lock serializes requests."""

    __slots__ = (
        "_answer", "_answer_at", "_caller", "_collected", "_file", "_lock", "_refusal", "_snapshot",
        "_subject", "writing",
    )  # fmt: skip

    direct_io = True
    keep_cache = False

    def __init__(self, subject: Subject, file: ControlFile[Any], caller: Caller) -> None:
        self._subject, self._file, self._caller = subject, file, caller
        self.writing: Work | None = Work.WAITING if file.waits else Work.COMMAND
        self._lock = threading.Lock()
        self._snapshot = Snapshot(())
        self._refusal = Snapshot(())  # the last refusal on this handle, for programs
        self._answer: Snapshot | None = None  # of the last command on this handle
        self._answer_at: int | None = None  # the offset where it begins; None until it is read
        self._collected = Document()

    def reading(self, offset: int) -> Work:
        return Work.COMPUTING if self._file.computes and offset == 0 else Work.COMMAND

    def read(self, offset: int, size: int) -> bytes:
        with self._lock:
            if offset >= refusals.OFFSET:
                return self._refusal.read(offset - refusals.OFFSET, size)
            if self._answer is not None:
                if self._answer_at is None or offset == 0:
                    self._answer_at = offset
                begin = offset - self._answer_at
                return self._answer.read(begin, size) if begin >= 0 else b""
            if offset == 0:
                self._snapshot.close()
                self._snapshot = Snapshot(())
                try:
                    content = self._file.read_for(self._subject, self._caller)
                    self._snapshot = self._subject.snapshot(content, self._caller)
                except (ArtfsError, OSError) as error:
                    self._keep_refusal(error)
                    raise
            return self._snapshot.read(offset, size)

    def write(self, offset: int, data: bytes) -> int:
        with self._lock, self._answering():
            command: bytes | None = data
            if self._file.document:
                command = self._collect(data)
            elif len(data) > COMMAND_BYTES:
                # A full request: it may be the beginning of a longer write(2).
                raise InvalidCommand(f"the command is too long: it may have {COMMAND_BYTES} bytes")
            if command is not None:
                self._accept(self._file.write(self._subject, command.removesuffix(b"\n"), self._caller))
            return len(data)

    def _collect(self, data: bytes) -> bytes | None:
        """Adds a piece; returns the document once it is complete. Then, and on errors, nothing is kept."""
        try:
            if len(self._collected) + len(data) > self._file.document:
                raise InvalidCommand(f"the document is too long: it may have {self._file.document} bytes")
            DOCUMENTS.take(self._caller.uid, len(data))
            document = self._collected.add(data)
        except BaseException:
            self._forget_collected()
            raise
        if document is not None:
            self._forget_collected()
        return document

    def _forget_collected(self) -> None:
        DOCUMENTS.give(self._caller.uid, len(self._collected))
        self._collected = Document()

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Records why a command is refused."""
        try:
            yield
        except (ArtfsError, OSError) as error:
            self._set_reason(str(error) if isinstance(error, ArtfsError) else os_error_text(error))
            self._keep_refusal(error)
            raise

    def _keep_refusal(self, error: ArtfsError | OSError) -> None:
        """Keeps a refusal for a program, unless the caller may not have as many bytes."""
        self._forget_refusal()
        with contextlib.suppress(OSError):
            self._refusal = self._subject.snapshot(refusals.encoded(error), self._caller)

    def _forget_refusal(self) -> None:
        self._refusal.close()
        self._refusal = Snapshot(())

    def _accept(self, answer: str | Snapshot | None) -> None:
        self._subject.refused = None
        self._forget_refusal()
        self._set_answer(answer or "ok\n")

    def _set_answer(self, answer: str | Snapshot) -> None:
        if self._answer is not None:
            self._answer.close()
        self._answer = Snapshot.uncounted(answer) if isinstance(answer, str) else answer
        self._answer_at = None

    def _set_reason(self, reason: str) -> None:
        reason = " ".join(reason.split())
        if len(reason) > _REASON_LIMIT:
            reason = reason[:_REASON_LIMIT] + "..."
        self._subject.refused = reason
        self._set_answer(reason + "\n")

    def release(self) -> None:
        # A flush ends nothing: it is sent whenever one of the processes that share the handle closes it. So
        # only the next reader of `error` can be notified.
        if self._collected:
            self._subject.refused = (
                "the JSON document was not complete when the file was closed; write it again"
            )
            self._forget_collected()
        self._snapshot.close()
        self._refusal.close()
        if self._answer is not None:
            self._answer.close()


class SteppedHandle(ControlHandle):
    """A control file whose commands run on the loop's thread, except for steps that take long.

    The kernel sends one write at a time of an inode, so there is one command at a time.
    """

    __slots__ = ("_step", "_steps")

    def __init__(self, subject: Subject, file: ControlFile[Any], caller: Caller) -> None:
        super().__init__(subject, file, caller)
        self.writing = None
        self._steps: Generator[Callable[[], Any], Any, str | Snapshot | None] | None = None
        self._step = _Step(lambda: None)

    def write(self, offset: int, data: bytes) -> int:
        if self._steps is None:
            self._steps = self._file.steps(self._subject, data.removesuffix(b"\n"), self._caller)
        value, error = self._step.outcome
        self._step = _Step(lambda: None)  # frees the result of the one that is done
        with self._answering():
            try:
                call = self._steps.send(value) if error is None else self._steps.throw(error)
            except StopIteration as end:
                self._steps = None
                self._accept(end.value)
                return len(data)
            except BaseException:
                self._steps = None
                raise
        step = self._step = _Step(call)
        if isinstance(call, RemoteStep):
            raise NeedsWork(step.run, waiter=self._caller, abandon=step.give_up)
        raise NeedsWork(step.run)

    def release(self) -> None:
        if self._steps is not None:  # the caller gave up
            self._steps.close()
        super().release()


class _Step:
    """One step of a command, and its outcome."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.outcome: tuple[Any, Exception | None] = None, None

    def run(self) -> None:
        try:
            self.outcome = self._call(), None
        except Exception as error:  # noqa: BLE001  (raised where the step was yielded)
            self.outcome = None, error

    def give_up(self, why: Exception) -> None:
        if isinstance(self._call, RemoteStep):
            self._call.given_up = True
        self.outcome = None, why


def directory_attributes(subject: Subject, ino: int) -> Attributes:
    """Returns the attributes of a directory of control files; users who may list the subject may list it."""
    return _attributes(ino, subject.owner(), stat.S_IFDIR | 0o555)


def _attributes(ino: int, owner: Attributes, mode: int) -> Attributes:
    """Returns the attributes of a control file or directory: its subject's owner, and mode masked by its.

    The subject's r grants reading, its w grants commands; its x is needed to reach the file.
    """
    return Attributes(
        ino,
        stat.S_IFMT(mode) | stat.S_IMODE(mode) & stat.S_IMODE(owner.mode),
        uid=owner.uid,
        gid=owner.gid,
        mtime_ns=owner.mtime_ns,
        ctime_ns=owner.ctime_ns,
        atime_ns=owner.mtime_ns,
        entry_timeout=0,
        attr_timeout=0,
    )
