"""The protocol of a control file: what it reads as, and what a command written to it does.

Control files run on worker threads and may block; they hold no state between calls, the place does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from artfs.errors import InvalidCommand

if TYPE_CHECKING:
    from artfs.vfs.control.snapshot import Content, Snapshot
    from artfs.vfs.control.subject import Subject
    from artfs.vfs.node import Caller, Node

P = TypeVar("P", bound="Subject")


class ControlFile(Generic[P]):
    """One kind of control file, for places of one kind."""

    name: ClassVar[str]
    writable: ClassVar[bool] = False
    #: A command that may wait: each lookup gets a node of its own, so that no caller queues behind another's.
    waits: ClassVar[bool] = False
    #: A command of which a part may take long and another belongs on the loop's thread: see :meth:`steps`.
    stepped: ClassVar[bool] = False
    #: Reading it goes through whole trees.
    computes: ClassVar[bool] = False
    #: The most bytes of a JSON object that may come in several writes, and is applied when it is whole; 0: it
    #: takes commands.
    document: ClassVar[int] = 0

    def read(self, subject: P) -> Content:
        """Returns the present state: whole, or piece by piece where it may be much."""
        raise NotImplementedError

    def read_for(self, subject: P, caller: Caller) -> Content:
        """Returns what :meth:`read` does, where it depends on who asks. Raises PermissionError."""
        return self.read(subject)

    def write(self, subject: P, command: bytes, caller: Caller) -> str | None:
        """Does what one write(2) asks; the answer is what the same handle reads next.

        A newline at the end is gone already. Raises an :class:`~artfs.errors.ArtfsError` to refuse.
        """
        raise NotImplementedError

    def steps(
        self, subject: P, command: bytes, caller: Caller
    ) -> Generator[Callable[[], Any], Any, str | Snapshot | None]:
        """Does as :meth:`write`, on the loop's thread: what takes long is yielded, and done on another.

        What that returns or raises comes out of the ``yield``; :class:`Elsewhere` may also raise Interrupted.
        """
        raise NotImplementedError

    def readable(self, subject: P) -> int:
        """Returns the mask of permission bits for reading it, of which the place then grants its own."""
        return 0o444

    def node(self, subject: P) -> Node | None:
        """Returns the node under this name where it is a directory of its own; None for a file."""
        return None


class Elsewhere:
    """A step that changes nothing and waits for another machine: who asked for it may give it up.

    What it calls is told by :attr:`given_up` that he did.
    """

    def __init__(self, call: Callable[[Elsewhere], Any]) -> None:
        self._call = call
        self.given_up = False

    def __call__(self) -> Any:
        return self._call(self)


def line(value: Any) -> str:
    """Encodes a value as one line of JSON. Undecodable bytes of names are lone surrogates, escaped."""
    return json.dumps(value) + "\n"


def text(name: bytes) -> str:
    """Decodes a name for JSON; :func:`os.fsencode` gives the same bytes back."""
    return name.decode("utf-8", "surrogateescape")


def decoded(command: bytes) -> str:
    """Decodes a command. Raises :class:`~artfs.errors.InvalidCommand` for what is not UTF-8."""
    try:
        return command.decode()
    except UnicodeDecodeError:
        raise InvalidCommand("a command must be UTF-8 text") from None


def seconds(option: str, *, most: float = math.inf) -> float:
    """Reads ``--NAME=SECONDS``. Raises :class:`~artfs.errors.InvalidCommand`."""
    name, _, value = option.partition("=")
    try:
        found = float(value)
    except ValueError:
        found = -1
    if not 0 <= found <= most:
        limit = "" if most == math.inf else f", at most {most:.0f}"
        raise InvalidCommand(f"{name} takes seconds{limit}, not '{value}'")
    return found
