"""The protocol of a control file: what it reads as, and what a command written to it does.

Control files run on worker threads and may block. They hold no state between calls; the subject does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec

from artfs.errors import InvalidCommand
from artfs.printing import printable

if TYPE_CHECKING:
    from artfs.vfs.control.snapshot import Content, Snapshot
    from artfs.vfs.control.subject import Subject
    from artfs.vfs.node import Caller, Node

P = TypeVar("P", bound="Subject")
T = TypeVar("T")


class ControlFile(Generic[P]):
    """One kind of control file, for subjects of one kind."""

    name: str
    writable: ClassVar[bool] = False
    #: Commands may wait: each lookup returns a new node, so that no caller queues behind another.
    waits: ClassVar[bool] = False
    #: Commands have parts that take long, and parts that run on the loop's thread: see :meth:`steps`.
    stepped: ClassVar[bool] = False
    #: Reading it walks whole trees.
    computes: ClassVar[bool] = False
    #: Bytes that a JSON object may have, which may be written in several pieces and is applied once it is
    #: complete; 0 for a file that takes commands.
    document: ClassVar[int] = 0

    def read(self, subject: P) -> Content:
        """Returns the present state, as a whole or, if it may be large, in pieces."""
        raise NotImplementedError

    def read_for(self, subject: P, caller: Caller) -> Content:
        """Returns what :meth:`read` does, if it depends on the caller. Raises PermissionError."""
        return self.read(subject)

    def write(self, subject: P, command: bytes, caller: Caller) -> str | None:
        """Carries out the command of one write(2); the same handle reads the answer next.

        A newline at the end was removed. Raises an :class:`~artfs.errors.ArtfsError` to refuse.
        """
        raise NotImplementedError

    def steps(
        self, subject: P, command: bytes, caller: Caller
    ) -> Generator[Callable[[], Any], Any, str | Snapshot | None]:
        """Does as :meth:`write` on the loop's thread, and yields calls that take long, for a worker thread.

        The ``yield`` returns or raises what the call does; for :class:`Elsewhere` also Interrupted.
        """
        raise NotImplementedError

    def readable(self, subject: P) -> int:
        """Returns the permission bits for reading it; the subject's own mode masks them."""
        return 0o444

    def node(self, subject: P) -> Node | None:
        """Returns the node if the name is a directory; None for a file."""
        return None


class RemoteStep:
    """A step that changes nothing and waits for another machine, and that its caller may give up.

    The call sees that in :attr:`given_up`.
    """

    def __init__(self, call: Callable[[RemoteStep], Any]) -> None:
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
        raise InvalidCommand("cannot read the command: it must be UTF-8 text") from None


def converted(what: str, value: object, kind: type[T]) -> T:
    """Returns JSON as a msgspec type. Raises :class:`~artfs.errors.InvalidCommand`."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter for keys with lone surrogates
        raise InvalidCommand(f"cannot read {what}: {error}") from None


def json_object(what: str, document: bytes) -> dict[str, Any]:
    """Reads a JSON object. Raises :class:`~artfs.errors.InvalidCommand`."""
    try:
        value = json.loads(document.decode() or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidCommand(f"{what} must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise InvalidCommand(f"{what} must be a JSON object, not {_kind(value)}")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _kind(value: object) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def option(file: str, word: str, known: Mapping[str, Callable[[str], Any] | None]) -> tuple[str, Any]:
    """Reads ``--NAME``, or ``--NAME=VALUE`` by its parser in `known`; returns the name and the value.

    argparse would also take abbreviations and ``--NAME VALUE``, where VALUE can be an alias.
    """
    for usage, parse in known.items():
        name = usage.partition("=")[0]
        if parse is None and word == name:
            return name, True
        if parse is not None and word.startswith(name + "="):
            return name, parse(word)
    raise InvalidCommand(f"'{printable(word)}' is not an option of {file}; it has {', '.join(known)}")


def seconds(word: str, *, most: float = math.inf) -> float:
    """Reads ``--NAME=SECONDS``. Raises :class:`~artfs.errors.InvalidCommand`."""
    name, _, value = word.partition("=")
    try:
        found = float(value)
    except ValueError:
        found = -1
    if not 0 <= found <= most:
        limit = "" if most == math.inf else f", at most {most:.0f}"
        raise InvalidCommand(f"{name} takes seconds{limit}, not '{printable(value)}'")
    return found
