"""Every decoder of artfs by name: the decoded value, its encoding, and examples.

``Decoder.once`` is the property that the fuzzers test: any bytes are a value or one of artfs's errors; a
value with a canonical encoding has exactly the input as its encoding.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from artfs.catalog import records
from artfs.catalog.runs import RecordedRun, RunCatalog, check_run_id
from artfs.errors import ArtfsError, Damaged
from artfs.fuse import handshake
from artfs.model import digest, duration, names, pages
from artfs.model.digest import Algorithm
from artfs.model.scope import Scope
from artfs.pending import overlay, reference_files
from artfs.pending.joined_runs import JoinedRun
from artfs.pending.pending_version import CreationRecord, Mark, Owners, PendingLabels
from artfs.references import uris
from artfs.store import documents, durable
from artfs.store.layout import Layout
from artfs.store.locks import Lock
from artfs.vfs.control import finish_file, json_documents, metadata_file, references_file, text_files

GOLDEN = Path(__file__).resolve().parents[1] / "unit/golden"
ID = digest.text(digest.tree_id(Algorithm.XXH128, b"page")).encode()


@dataclass(frozen=True)
class Decoder:
    decode: Callable[[bytes], object]
    examples: tuple[bytes, ...]
    encode: Callable[[Any], bytes] | None = None
    #: Exceptions besides ArtfsError that the decoder's docstring names.
    refuses: tuple[type[Exception], ...] = ()

    def once(self, data: bytes) -> bool:
        """Returns whether the bytes are a value; raises AssertionError, or an unexpected exception."""
        expected: tuple[type[Exception], ...] = (ArtfsError, *self.refuses)
        try:
            value = self.decode(data)
        except expected:
            return False
        assert self.encode is None or self.encode(value) == data, "decoded, and not canonical"
        return True


def _golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def _text(check: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: check(data.decode("utf-8", "surrogateescape"))


@functools.cache
def _scratch() -> tuple[tempfile.TemporaryDirectory[str], int]:
    place = tempfile.TemporaryDirectory(prefix="artfs-fuzz-")
    return place, os.open(place.name, os.O_RDONLY | os.O_DIRECTORY)


def _in_file(name: bytes, read: Callable[[int], object]) -> Callable[[bytes], object]:
    """A decoder that reads a file, in a directory that it gets."""

    def decode(data: bytes) -> object:
        _, fd = _scratch()
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=fd)
        try:
            durable.write_all(file, data)
        finally:
            os.close(file)
        return read(fd)

    return decode


def _lower(data: bytes) -> object:
    _, fd = _scratch()
    if not data or b"\0" in data or len(data) > 4000:
        raise Damaged("a target", "no symlink has it")
    os.symlink(data, b".artfs@lower", dir_fd=fd)
    try:
        return overlay.lower_of(fd)
    finally:
        os.unlink(b".artfs@lower", dir_fd=fd)


def _config(_: int) -> object:
    with Layout.open(_scratch()[0].name) as opened:
        return opened.config


def _init(data: bytes) -> object:
    ours, theirs = os.pipe()
    try:
        os.write(theirs, data[:60_000])
        os.close(theirs)
        theirs = -1
        reply, flags = handshake._reply(handshake._read_init(ours), handshake.Options())
        assert len(reply) == 80
        return flags
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _document(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """A document that a control file accepts once it is complete."""
    return lambda data: parse(whole) if (whole := json_documents.Document().add(data)) is not None else None


def _run(document: bytes) -> object:
    _, fd = _scratch()
    try:
        os.unlink(b"r.json", dir_fd=fd)
    except FileNotFoundError:
        pass
    return RunCatalog(fd).apply("r", msgspec.json.decode(document)) if _is_object(document) else None


def _is_object(document: bytes) -> bool:
    # As the control file reads it.
    try:
        return isinstance(msgspec.json.decode(document), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _uri(uri: str) -> object:
    uris.check(uri)
    found: object = None
    if uris.scheme_of(uri) == "file":
        found = uris.file_path(uri)
    elif uris.scheme_of(uri) in ("http", "https"):
        found = uris.http_address(uri)
    elif uris.scheme_of(uri) != "artfs":
        found = uris.bucket_key(uri)
    return found


_PLACE: Any = SimpleNamespace(view=SimpleNamespace(stopping=False))
_CALLER: Any = SimpleNamespace(uid=0, gid=0, pid=1)
_REFERENCES: Any = SimpleNamespace(check=uris.check)
_VERSION = _golden("version.json")


def _load(kind: type[msgspec.Struct]) -> Callable[[bytes], object]:
    return lambda data: documents.decode(data, kind, "the file")


DECODERS: dict[str, Decoder] = {
    "page": Decoder(
        pages.decode,
        (_golden("leaf.page"), _golden("index.page"), b"\x92\x00\x90"),
        lambda page: page.encode(),
    ),
    "record": Decoder(
        lambda data: records.decode_version(data, 3, "it"), (_VERSION, _golden("tombstone.json"))
    ),
    "notes": Decoder(lambda data: records.decode_labels(data, "it"), (_golden("notes.json"),)),
    "run": Decoder(lambda data: records.decode(data, RecordedRun, "it"), (_golden("run.json"),)),
    "metadata": Decoder(lambda data: records.load_metadata(data, "it"), (b'{"a": [1, 2.5e3, "\\u00e9"]}\n',)),
    "config": Decoder(_in_file(b"artfs.json", _config), (_golden("artfs.json"),)),
    "birth": Decoder(
        _load(CreationRecord),
        (b'{"nonce":"00ff","created_at":"2030-01-02T03:04:05.000006Z","created_by":"ada"}\n',),
    ),
    "settings": Decoder(_load(PendingLabels), (_golden("settings.json"),)),
    "owners": Decoder(_load(Owners), (_golden("owners.json"),)),
    "scope": Decoder(_text(Scope.parse), (b"me/demo", b"/demo", b"")),
    "joined": Decoder(
        _load(JoinedRun), (b'{"name":"r","joined_at":"2030-01-02T03:04:05.000006Z","left_at":null}\n',)
    ),
    "mark": Decoder(_load(Mark), (b'{"seal":"00ff","aliases":["best"],"version":"v3","lowest":2}\n',)),
    "owner": Decoder(
        _in_file(b"lock", lambda fd: Lock(fd, b"lock").read_owner()), (b'{"pid":1,"host":"h","ticks":2}\n',)
    ),
    "base": Decoder(
        _in_file(b".artfs@base", overlay.base_of),
        (b'{"ref":"best","collection":"m","version":"v3","tree":"%s"}\n' % ID,),
    ),
    "lower": Decoder(_lower, (ID + b" 1f", ID + b" 0"), overlay._encode_lower),
    "target": Decoder(
        overlay.decode_target,
        (b".artfs-stub:644:%s:a:b" % ID, b".artfs-link:.artfs-x", b"../up"),
        lambda meant: (
            overlay.encode_stub(meant) if isinstance(meant, overlay.Stub) else overlay.escape_target(meant)
        ),
    ),
    "origin": Decoder(
        reference_files.decode,
        (b"\x92\xc4\x0as3://b/key\xc4\x04etag", b"\x92\xc4\x01a\xc4\x00"),
        msgspec.msgpack.encode,
    ),
    "blob-id": Decoder(
        _text(digest.parse_blob), (ID, ID + b"-3"), lambda blob: digest.text(blob).encode(), (ValueError,)
    ),
    "tree-id": Decoder(
        _text(digest.parse_tree), (ID,), lambda tree: digest.text(tree).encode(), (ValueError,)
    ),
    "distributed-id": Decoder(
        _text(records.decode_id),
        (b"job-1", b"a%25b", b"%FF"),
        lambda name: records.encode_id(name).encode(),
        (ValueError,),
    ),
    "duration": Decoder(_text(duration.seconds), (b"90m", b"30d", b"1")),
    "collection-name": Decoder(
        _text(names.check_collection), (b"model", b"a.b-c"), lambda name: name.encode()
    ),
    "alias-name": Decoder(_text(names.check_alias), (b"best", b"v1x"), lambda name: name.encode()),
    "id-name": Decoder(names.check_distributed_id, (b"job-42", b"\xff"), bytes),
    "entry-name": Decoder(names.check_entry_name, (b"a", b"\xff\n"), bytes),
    "run-name": Decoder(_text(check_run_id), (b"run-1",), lambda name: name.encode()),
    "version-name": Decoder(
        _text(names.parse_version),
        (b"v0", b"v12"),
        None,
    ),
    "uri": Decoder(_text(_uri), (b"file:///a/b%20c", b"https://h:1/p", b"s3://b/k")),
    "finish-line": Decoder(
        lambda data: finish_file.request(_PLACE, data, _CALLER), (b"best --wait=3 --force", b"latest")
    ),
    "aliases-line": Decoder(text_files.aliases_from, (b"best prod",)),
    "metadata-command": Decoder(_document(metadata_file.parsed), (b'{"a": {"b": [null, true]}}', b"{}")),
    "run-command": Decoder(_document(_run), (b'{"state": "finished", "inputs": ["m:v1"]}',)),
    "references-command": Decoder(
        references_file.ReferenceQuery.parse,
        (b"a b s3://b/k --dry-run --max-objects=3", b'{"path": "a", "uri": "s3://b"}'),
    ),
    "references-lines": Decoder(
        lambda data: references_file.parse_lines(data, _REFERENCES),
        (b'{"path": "a", "uri": "s3://b/k", "size": 3, "checksum": "e"}\n' * 2,),
    ),
    "init": Decoder(
        _init,
        (
            handshake._IN_HEADER.pack(56, 26, 2, 0, 0, 0, 0, 0, 0)
            + handshake._INIT_IN.pack(7, 38, 131072, (1 << 32) - 1),
        ),
        None,
        (ValueError, OSError),
    ),
}
