"""`finish`: one line seals the tree into a version; on a version it adds aliases."""

from __future__ import annotations

import functools
from typing import Any

from artfs.catalog.collection import Collection
from artfs.errors import InvalidCommand
from artfs.model import names, words
from artfs.seal.seal import DEFAULT_WAIT, Answer, Request
from artfs.vfs.control.control_file import ControlFile, decoded, line, option, seconds
from artfs.vfs.control.subject import PendingSubject, Subject, VersionSubject, check_may_name, request_of
from artfs.vfs.node import Caller
from artfs.volume.volume import user_name

USAGE = (
    "usage: echo '[ALIAS...] [--wait=SECONDS] [--force]' > finish\n"
    "seals the tree into the next version, which gets the aliases; `error` says why a command was refused\n"
    "in an alias %XX is a byte: epoch%203 is 'epoch 3'\n"
)
_LONGEST_WAIT = 7 * 86400.0
_OPTIONS = {"--wait=SECONDS": functools.partial(seconds, most=_LONGEST_WAIT), "--force": None}


def request(subject: Subject, command: bytes, caller: Caller) -> Request:
    """Reads a command. Raises :class:`InvalidCommand`, :class:`~artfs.errors.InvalidName`."""
    if b"\n" in command:
        raise InvalidCommand("cannot read several lines at once; write one command to finish")
    aliases, given = list[str](), dict[str, Any]()
    for item in command.split():
        if item.startswith(b"-"):
            name, value = option("finish", decoded(item), _OPTIONS)
            given[name] = value
        else:
            aliases.append(names.check_alias(words.read_word(item)))
    return request_of(
        subject,
        caller,
        aliases=aliases,
        wait=given.get("--wait", DEFAULT_WAIT),
        force=given.get("--force", False),
        by=user_name(caller.uid),
    )


def _answer(answer: Answer) -> str:
    return line(answer.json())


class PendingFinishFile(ControlFile[PendingSubject]):
    name, writable, waits = "finish", True, True

    def read(self, subject: PendingSubject) -> str:
        return _last(subject.collection, subject.tree.name) or USAGE

    def write(self, subject: PendingSubject, command: bytes, caller: Caller) -> str:
        asked = request(subject, command, caller)
        check_may_name(caller, subject.collection, asked.aliases)
        return _answer(subject.view.volume.finish_tree(subject.collection, subject.tree, asked))


class VersionFinishFile(ControlFile[VersionSubject]):
    name, writable, waits = "finish", True, True

    def read(self, subject: VersionSubject) -> str:
        return _answer(Answer(subject.record.version, False, subject.record.digest))

    def write(self, subject: VersionSubject, command: bytes, caller: Caller) -> str:
        asked = request(subject, command, caller)
        return _answer(subject.view.volume.finish_again(subject.collection, subject.record.number, asked))


def _last(collection: Collection, distributed_id: bytes) -> str | None:
    number = collection.finished(distributed_id)
    if number is None:
        return None
    record = collection.record(number)
    return _answer(Answer(record.version, record.id != distributed_id, record.digest))
