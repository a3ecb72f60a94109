"""All modifications of a volume by name: one function each, and how artfs must react.

``check`` is a pattern that the findings of ``artfs check`` must match; None: no finding. ``gc`` is whether gc
runs, which it may if nothing hides what versions and pending versions need. None: it removes no object, but
may refuse, since labels and aliases determine which versions are kept.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from artfs.model.digest import text
from artfs.model.tree import build
from tests.crafted.volumes import ALGORITHM, Crafted, dir_entry, file_entry, in_place_of, item, symlink_entry
from tests.thorough import THOROUGH

Do = Callable[[Crafted], object]


@dataclass(frozen=True)
class Craft:
    name: str
    do: Do = field(compare=False)
    check: str | None
    gc: bool | None
    #: Whether the other collection still accepts versions.
    finish: bool = True


CRAFTS: list[Craft] = []


def add(name: str, do: Do, check: str | None, *, gc: bool | None, finish: bool = True) -> None:
    CRAFTS.append(Craft(name, do, check, gc, finish))


def parameters() -> list[Any]:
    """All crafts with ``ARTFS_THOROUGH=1``; else those that once broke artfs, and every 20th."""
    taken = (c for n, c in enumerate(CRAFTS) if THOROUGH or c.name in REGRESSIONS or n % 20 == 0)
    return [pytest.param(craft, id=craft.name) for craft in taken]


#: One for each way in which artfs hung, ended with a traceback, or removed what it did not know.
REGRESSIONS = {
    "version-absurd",
    "record-serial-big",
    "record-serial-of-another",
    "record-created_at-words",
    "record-root-xattrs-upper-case",
    "notes-of-infinite",
    "notes-of-surrogate",
    "id-to-nowhere",
    "type-of-lines",
    "directory-collection-symlink",
    "directory-versions-symlink",
    "collection-hidden",
    "tree-huge",
    "pending-draft.json-deep",
    "pending-draft.json-fifo",
    "pending-draft.json-missing",
    "pending-settings.json-huge",
    "pending-metadata.json-truncated",
    "pending-tree-symlink",
    "mark-lowest",
    "unshared-x",
    "mark-version-other",
    "base-tree-path",
    "base-deep",
    "lower-missing",
    "lower-number-negative",
    "lower-number-of-the-root",
    "stub-mode-huge",
    "gone-symlink",
    "owners-symlink",
    "owners-no-process",
    "run-deep",
    "serial-most",
    "serial-lost",
}


def _write(*parts: str, data: bytes) -> Do:
    def do(crafted: Crafted) -> None:
        path = crafted.path.joinpath(*parts)
        if path.exists():
            path.unlink()
        path.write_bytes(data)

    return do


def _replace(*parts: str, what: str) -> Do:
    return lambda crafted: in_place_of(crafted.path.joinpath(*parts), what, crafted.outside)


DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HUGE = b'{"format": ' + b"9" * 5000 + b', "version": ' + b"9" * 5000 + b"}"
FOREIGN = {
    "empty": b"",
    "truncated": b'{"version": "v0", "ser',
    "null": b"null\n",
    "array": b"[]\n",
    "text": b'"v0"\n',
    "empty-object": b"{}\n",
    "not-utf8": b'{"version": "\xff\xfe"}\n',
    "nul": b"\0\0\0\0",
    "nan": b'{"version": NaN, "nonce": NaN, "seal": Infinity}\n',
    "deep": DEEP,
    "huge-number": HUGE,
    "elf": b"\x7fELF\x02\x01\x01" + bytes(100),
    "script": b"#!/bin/sh\nrm -rf /\n",
    "wrong-types": b'{"version": 0, "nonce": [], "aliases": {"a": 1}, "id": {}, "seal": {}, "hash": []}\n',
}
KINDS = ["symlink", "dangling", "secret", "directory", "fifo", "socket", "device", "huge"]

# ---- records

for _what, _data in FOREIGN.items():
    add(
        f"record-{_what}",
        _write("collections", "bad", "versions", "v0.json", data=_data),
        r"bad/versions/v0\.json",
        gc=False,
    )
for _what in (*KINDS, "missing"):
    add(
        f"record-{_what}",
        _replace("collections", "bad", "versions", "v0.json", what=_what),
        r"bad/versions/v0\.json",
        gc=False,
    )

RECORD: dict[str, dict[str, Any]] = {
    "version": {"other": "v1", "padded": "v00", "negative": "v-1", "huge": "v" + "9" * 30, "none": None},
    "serial": {"negative": -1, "big": 1 << 40, "huge": 1 << 70, "float": 1.5, "of-another": 2},
    "digest": {"path": "xxh128:../../etc/passwd", "other": "xxh128:" + "0" * 32},
    "size": {"negative": -1, "wrong": 7, "huge": 1 << 64},
    "distributed_id": {"half-encoded": "%2", "lower-case": "%c3", "slash": "%2F", "surrogate": "\ud800"},
    "created_at": {"words": "yesterday", "year-0": "0000-01-01T00:00:00.000000Z", "no-zone": "2026-01-01"},
    "metadata": {"array": [], "infinite": 1e999},
    "runs": {"text": "run", "numbers": [1]},
}
ROOT: dict[str, dict[str, Any]] = {
    "tree": {
        "path": "xxh128:../../../../../../../../etc/passwd",
        "upper-case": "xxh128:ABCDEF0123456789ABCDEF0123456789",
        "missing": "xxh128:" + "0" * 32,
        "short": "xxh128:00",
        "sha256": "sha256:" + "0" * 64,
        "unknown": "md5:" + "0" * 32,
        "counter": "xxh128:" + "0" * 32 + "-1",
        "blank": " xxh128:" + "0" * 32,
        "newline": "xxh128:" + "0" * 32 + "\n",
    },
    "mode": {"setuid": "4755", "kind": "0100644", "number": 493, "sign": "+755"},
    "uid": {"negative": -1, "huge": 1 << 32},
    "mtime_ns": {"huge": 1 << 63, "tiny": -(1 << 63) - 1, "float": 1.5},
    "entries": {"negative": -1, "huge": 1 << 64, "most": (1 << 63) - 1, "wrong": 60},
    "reach": {"more": "0777", "mode": "0333"},
    "xattrs": {
        "no-hex": [["zz", "00"]],
        "blanks": [["75 73", "0 0"]],
        "upper-case": [["AB", "00"]],
        "twice": [["75", "00"], ["75", "01"]],
        "no-name": [["", "00"]],
        "nul": [["00", "00"]],
        "long": [["75", "00" * 70_000]],
    },
}


def _record(key: str, value: Any) -> Do:
    return lambda crafted: crafted.change_record(lambda document: document.update({key: value}))


def _root(key: str, value: Any) -> Do:
    return lambda crafted: crafted.change_record(lambda document: document["root"].update({key: value}))


for _key, _values in RECORD.items():
    for _what, _value in _values.items():
        _missing = {"serial-of-another": r"bad:v0.*serial|serial.*bad:v"}.get(f"{_key}-{_what}")
        add(
            f"record-{_key}-{_what}",
            _record(_key, _value),
            _missing or r"bad/versions/v0\.json",
            gc=f"{_key}-{_what}" == "serial-of-another",
        )
for _key, _values in ROOT.items():
    for _what, _value in _values.items():
        _in_tree = {
            "tree-missing": "0{32}",
            "tree-sha256": "sha256:0",
            "entries-most": "bad:v0",
            "entries-wrong": "bad:v0",
        }
        add(
            f"record-root-{_key}-{_what}",
            _root(_key, _value),
            _in_tree.get(f"{_key}-{_what}", r"bad/versions/v0\.json"),
            gc=f"{_key}-{_what}" in ("entries-wrong", "entries-most"),
        )


def _absurd_version(crafted: Crafted) -> None:
    source = crafted.read_record(1)
    source |= {"version": "v999999999999999999", "serial": 77, "seal": "x"}
    (crafted.bad / "versions/v999999999999999999.json").write_text(json.dumps(source))


def _gap(crafted: Crafted) -> None:
    source = crafted.read_record(1)
    source |= {"version": "v100000", "serial": 77, "seal": "x"}
    (crafted.bad / "versions/v100000.json").write_text(json.dumps(source))


add("version-absurd", _absurd_version, r"bad/versions/.*missing", gc=False)
add("version-gap", _gap, r"bad/versions/.*missing", gc=False)
add(
    "version-of-19-digits",
    _write("collections", "bad", "versions", "v1000000000000000000.json", data=b"{}"),
    r"versions/v1000000000000000000\.json",
    gc=True,
)

# ---- the other small files of a collection

for _what, _data in FOREIGN.items():
    if _what not in ("empty-object", "huge-number", "wrong-types"):  # unknown keys
        add(
            f"notes-{_what}",
            _write("collections", "bad", "notes", "v0.json", data=_data),
            r"notes/v0\.json",
            gc=None,
        )
    add(
        f"alias-{_what}", _write("collections", "bad", "aliases", "best", data=_data), "aliases/best", gc=None
    )
    add(f"id-{_what}", _write("collections", "bad", "ids", "job-0", data=_data), "ids/job-0", gc=None)
for _what in KINDS:
    add(
        f"notes-{_what}",
        _replace("collections", "bad", "notes", "v0.json", what=_what),
        r"notes/v0\.json",
        gc=None,
    )
    add(
        f"alias-{_what}",
        _replace("collections", "bad", "aliases", "best", what=_what),
        "aliases/best",
        gc=None,
    )
    add(f"id-{_what}", _replace("collections", "bad", "ids", "job-0", what=_what), "ids/job-0", gc=None)
    for _file in ("type", "scope", "tags"):
        add(f"{_file}-{_what}", _replace("collections", "bad", _file, what=_what), f"bad/{_file}", gc=None)
for _what, _value in {
    "infinite": b'{"metadata": {"a": 1e999}}',
    "surrogate": b'{"description": "\\ud800"}',
    "tags": b'{"tags": ["two words", "\\u001b[31m"]}',
    "ttl": b'{"ttl": -1}',
}.items():
    add(
        f"notes-of-{_what}",
        _write("collections", "bad", "notes", "v0.json", data=_value),
        r"notes/v0\.json",
        gc=None,
    )
add(
    "notes-of-nothing",
    _write("collections", "bad", "notes", "v77.json", data=b"{}"),
    r"notes/v77\.json",
    gc=None,
)
for _what, _data in {
    "nowhere": b"v99\n",
    "absurd": b"v999999999999999999\n",
    "loop": b"first\n",
    "self": b"best\n",
    "up": b"../v0\n",
    "path": b"/etc/passwd\n",
}.items():
    add(
        f"alias-to-{_what}",
        _write("collections", "bad", "aliases", "best", data=_data),
        "aliases/best",
        gc=None,
    )
for _what, _data in {"nowhere": b"v99\n", "absurd": b"v999999999999999999\n", "up": b"../v0\n"}.items():
    add(f"id-to-{_what}", _write("collections", "bad", "ids", "job-0", data=_data), "ids/job-0", gc=None)
add("type-not-utf8", _write("collections", "bad", "type", data=b"\xff\n"), "bad/type", gc=None)
add("type-of-lines", _write("collections", "bad", "type", data=b"a\nb\x1b[31m\n"), "bad/type", gc=None)
add("ttl-words", _write("collections", "bad", "ttl", data=b"soon\n"), "bad/ttl", gc=None)
add("scope-slashes", _write("collections", "bad", "scope", data=b"a/b/c\n"), "bad/scope", gc=None)
add("collection-tags", _write("collections", "bad", "tags", data=b"a\tb\n"), "bad/tags", gc=None)
add("ttl-digits", _write("collections", "bad", "ttl", data=b"9" * 5000), "bad/ttl", gc=None)
add(
    "description-not-utf8",
    _write("collections", "bad", "description", data=b"\xff"),
    "bad/description",
    gc=None,
)

# ---- directories

for _sub in ("", "versions", "aliases", "ids", "notes", "pending"):
    for _what in ("symlink", "file", "missing", "fifo"):
        if _sub or _what != "missing":
            add(
                f"directory-{_sub or 'collection'}-{_what}",
                _replace(*filter(None, ("collections", "bad", _sub)), what=_what),
                f"collections/bad/{_sub}" if _sub else "collections/bad",
                gc=None if _sub in ("aliases", "ids", "notes") else False,
            )
add("collection-of-no-name", lambda c: c.bad.rename(c.bad.with_name("bad name")), "bad name", gc=False)
add("collection-hidden", lambda c: c.bad.rename(c.bad.with_name(".bad")), r"\.bad", gc=False)
add("collection-long", lambda c: c.bad.rename(c.bad.with_name("b" * 200)), "b{200}", gc=False)
add("collection-file", lambda c: (c.bad.with_name("more")).write_bytes(b""), "collections/more", gc=False)

# ---- objects whose content does not match their name


def _object(kind: str, how: str) -> Do:
    def do(crafted: Crafted) -> None:
        if kind == "tree":
            path = crafted.tree_file(crafted.root())
        else:
            path = crafted.blob_file(crafted.blob_of(b"file"))
        if how in (*KINDS, "missing"):
            in_place_of(path, how, crafted.outside)
            return
        data = path.read_bytes()
        changed = {
            "empty": b"",
            "truncated": data[:-1],
            "longer": data + b"\0",
            "flipped": bytes([data[0] ^ 1]) + data[1:],
            "another": crafted.tree_file(crafted.root(1)).read_bytes(),
        }[how]
        path.unlink()
        path.write_bytes(changed)

    return do


for _how in (*KINDS, "missing", "empty", "truncated", "longer", "flipped", "another"):
    add(f"tree-{_how}", _object("tree", _how), r"tree xxh128:\w+", gc=False)
    if _how != "huge":  # check reads files of any size
        add(f"blob-{_how}", _object("blob", _how), r"blob xxh128:\w+", gc=True)

# ---- trees that artfs never makes, with the right digests


def _tree(page: Callable[[Crafted], object], **counts: Any) -> Do:
    return lambda crafted: crafted.commit(crafted.put(page(crafted)), **counts)


NAMES = {
    "dotdot": b"..",
    "dot": b".",
    "empty": b"",
    "slash": b"/",
    "inner-slash": b"a/b",
    "climbing": b"../../outside/planted",
    "absolute": b"/etc/x",
    "nul": b"a\0b",
    "256": b"n" * 256,
    "reserved": b".artfs",
    "lower": b".artfs@lower",
    "temp": b".artfs@tmp.1.x",
}
for _what, _name in NAMES.items():
    add(f"name-{_what}", _tree(lambda _, n=_name: [0, [file_entry(n)]]), r"tree xxh128", gc=False)  # type: ignore[misc]
    add(
        f"name-of-directory-{_what}",
        _tree(lambda c, n=_name: [0, [dir_entry(n, c.put([0, []]))]]),  # type: ignore[misc]
        r"tree xxh128",
        gc=False,
    )
_BLOB = b"\x01" + ALGORITHM.digest(b"")
PAGES: dict[str, Any] = {
    "twice": [0, [file_entry(b"a"), file_entry(b"a")]],
    "order": [0, [file_entry(b"b"), file_entry(b"a")]],
    "tag": [0, [[4, b"a", 0o644, 0, 0, 0, 0, _BLOB, []]]],
    "setuid": [0, [file_entry(b"a", mode=0o4755)]],
    "kind": [0, [file_entry(b"a", mode=0o100644)]],
    "negative-mode": [0, [file_entry(b"a", mode=-1)]],
    "negative-size": [0, [file_entry(b"a", size=-1)]],
    "huge-size": [0, [file_entry(b"a", size=(1 << 64) - 1)]],
    "negative-owner": [0, [file_entry(b"a", uid=-1)]],
    "huge-owner": [0, [file_entry(b"a", uid=1 << 32)]],
    "blob-of-text": [0, [file_entry(b"a", blob=b"../../../etc/passwd")]],
    "blob-short": [0, [file_entry(b"a", blob=b"\x01")]],
    "blob-unknown": [0, [file_entry(b"a", blob=b"\x09" + bytes(16))]],
    "counter-of-zero": [0, [file_entry(b"a", blob=_BLOB + b"\0")]],
    "xattr-huge": [0, [file_entry(b"a", xattrs=[[b"user.a", bytes(65537)]])]],
    "xattr-nul": [0, [file_entry(b"a", xattrs=[[b"user\0", b""]])]],
    "xattr-order": [0, [file_entry(b"a", xattrs=[[b"user.b", b""], [b"user.a", b""]])]],
    "xattr-text": [0, [file_entry(b"a", xattrs="abc")]],
    "target-empty": [0, [symlink_entry(b"a", b"")]],
    "target-nul": [0, [symlink_entry(b"a", b"x\0y")]],
    "target-long": [0, [symlink_entry(b"a", b"x" * 4096)]],
    "short-entry": [0, [[0, b"a"]]],
    "level-0": [1, 0, [item(b"a", b"\x01" + bytes(16))]],
    "level-8": [1, 8, [item(b"a", b"\x01" + bytes(16))]],
    "level-huge": [1, (1 << 64) - 1, [item(b"a", b"\x01" + bytes(16))]],
    "no-items": [1, 1, []],
    "map": {"0": []},
    "number": 0,
    "nothing": b"",
    "deep": b"\x91" * 100_000 + b"\xc0",
    "long-array": b"\x92\x00\xdd\xff\xff\xff\xff",
    "long-bin": b"\x92\x00\x91\x99\x00\xc6\xff\xff\xff\xff",
    "not-shortest": b"\x92\x00\xdc\x00\x00",
    "trailing": b"\x92\x00\x90\x00",
}
for _what, _page in PAGES.items():
    add(f"page-{_what}", _tree(lambda _, p=_page: p), r"tree xxh128", gc=False)  # type: ignore[misc]

#: Wrong summaries of the pages below. The digests are right, and each page alone is valid.
LIES: dict[str, tuple[dict[str, Any], bool]] = {
    "fewer": ({"entries": 0}, True),
    "more": ({"entries": 5, "files": 1}, True),
    "most": ({"entries": (1 << 63) - 1}, True),
    "too-many": ({"entries": 1 << 63}, False),
    "2-to-64": ({"entries": (1 << 64) - 1}, False),
    "negative": ({"entries": -1}, False),
    "bytes-2-to-64": ({"entries": 1, "files": 1, "bytes": (1 << 64) - 1}, False),
    "more-files": ({"entries": 1, "files": 2}, False),
    "content": ({"entries": 1, "files": 1}, True),
    "reach": ({"entries": 1, "files": 1, "mode": 0o700, "reach": 0o555}, False),
}
for _what, (_counts, _gc) in LIES.items():
    add(
        f"lie-{_what}",
        _tree(
            lambda c, k=_counts: [
                0,
                [dir_entry(b"d", c.put([0, [file_entry(b"f")]]), **k), file_entry(b"e")],
            ],  # type: ignore[misc]
            entries=3,
            files=2,
        ),
        r"tree xxh128",
        gc=_gc,
    )
add(
    "item-lies",
    _tree(lambda c: [1, 1, [item(b"z", c.put([0, [file_entry(b"f")]]), entries=1)]]),
    r"tree xxh128",
    gc=True,
)
add(
    "item-of-wrong-level",
    _tree(lambda c: [1, 5, [item(b"f", c.put([0, [file_entry(b"f")]]), files=1)]]),
    r"tree xxh128",
    gc=True,
)
add(
    "wrong-size",
    _tree(lambda c: [0, [file_entry(b"a", size=9, blob=c.blob_of(b"file"))]]),
    "blob xxh128|bad:v2",
    gc=True,
)
add(
    "no-blob",
    _tree(lambda c: [0, [file_entry(b"a", size=9, blob=b"\x01" + bytes(16))]]),
    "blob xxh128",
    gc=True,
)


def _deep(crafted: Crafted) -> None:
    def put(_: object, page: bytes) -> None:
        crafted.put(page)

    found = build((), ALGORITHM, put)
    for _ in range(10_000):
        entry = found.directory(b"d", 0o755, 0, 0, 0)
        found = build((entry,), ALGORITHM, put)
    crafted.commit(found.tree, content=found.content, entries=10_000, files=0)


add("directories-10000", _deep, None, gc=True)


def _index(crafted: Crafted) -> None:
    tree = crafted.put([0, [file_entry(b"f")]])
    for level in range(1, 8):
        tree = crafted.put([1, level, [item(b"f", tree, files=1)]])
    crafted.commit(tree)


add("index-of-7-levels", _index, "tree xxh128|bad:v2", gc=True)
add(
    "times",
    _tree(lambda _: [0, [file_entry(b"a", mtime_ns=(1 << 64) - 1, blob=_BLOB)]]),
    "blob xxh128|bad:v2",
    gc=True,
)
add("no-time", _tree(lambda _: [0, [file_entry(b"a", mtime_ns=-(1 << 63))]]), "blob|bad:v2", gc=True)
add(
    "absurd-counts",
    _tree(lambda _: [0, []], entries=1 << 40, files=1 << 40, bytes=(1 << 63) - 1),
    "bad:v2",
    gc=True,
)

# ---- pending versions

PENDING = ("collections", "bad", "pending", "next")
PATCH = ("collections", "bad", "pending", "patch")
PRIVATE = ("collections", "bad", "pending", "sdk-0123456789abcdef")
for _file in ("draft.json", "settings.json", "sealing", "conflicts.json", "runs/run-2"):
    for _what, _data in FOREIGN.items():
        if _file == "settings.json" and _what in ("empty-object", "huge-number"):  # unknown keys
            continue
        add(
            f"pending-{_file}-{_what}",
            _write(*PENDING, *_file.split("/"), data=_data),
            "bad/next|pending/next",
            gc=_file != "draft.json",
        )
    for _what in KINDS:
        add(
            f"pending-{_file}-{_what}",
            _replace(*PENDING, *_file.split("/"), what=_what),
            "bad/next|pending/next",
            gc=_file != "draft.json",
        )


def _private(do: Do) -> Do:
    """Modifies a pending version that a program made for itself."""

    def done(crafted: Crafted) -> None:
        path = crafted.path.joinpath(*PRIVATE)
        shutil.copytree(crafted.path.joinpath(*PENDING), path, symlinks=True)
        (path / "owners.json").write_bytes(DEAD)
        do(crafted)

    return done


DEAD = b'{"processes": [{"pid": 1, "host": "here", "ticks": 1}]}\n'
NO_PROCESS = b'{"processes": [{"pid": -1, "host": "here"}]}\n'
for _what, _data in {**FOREIGN, "no-process": NO_PROCESS}.items():
    add(
        f"owners-{_what}",
        _private(_write(*PRIVATE, "owners.json", data=_data)),
        # Unknown keys.
        None if _what in ("empty-object", "huge-number", "wrong-types") else f"{PRIVATE[-1]}/owners.json",
        gc=True,
    )
for _what in KINDS:
    add(
        f"owners-{_what}",
        _private(_replace(*PRIVATE, "owners.json", what=_what)),
        f"{PRIVATE[-1]}/owners.json",
        gc=True,
    )

add("pending-draft.json-missing", _replace(*PENDING, "draft.json", what="missing"), "pending/next", gc=False)
for _what in ("empty", "truncated", "null", "array", "not-utf8", "nan", "deep", "elf"):
    add(
        f"pending-metadata.json-{_what}",
        _write(*PENDING, "metadata.json", data=FOREIGN[_what]),
        "pending/next",
        gc=True,
    )
for _what in KINDS:
    add(
        f"pending-metadata.json-{_what}",
        _replace(*PENDING, "metadata.json", what=_what),
        "pending/next",
        gc=True,
    )
add(
    "pending-metadata.json-infinite",
    _write(*PENDING, "metadata.json", data=b'{"a": 1e999}'),
    "pending/next",
    gc=True,
)
for _what, _data in {
    "version-nowhere": b'{"seal": "x", "version": "v77"}',
    "version-path": b'{"seal": "x", "version": "../../v0"}',
    "version-other": b'{"seal": "x", "version": "v0"}',
    "lowest": b'{"seal": "x", "lowest": -1000000000000000000}',
    "alias": b'{"seal": "x", "aliases": ["../x"]}',
}.items():
    _named = "pending/next" if _what in ("version-path", "lowest") else None  # others were never decided
    add(f"mark-{_what}", _write(*PENDING, "sealing", data=_data), _named, gc=True)


def _copy_of_an_inode(name: str) -> Do:
    """Leaves a copy of a file as an interrupted seal or write does."""

    def do(crafted: Crafted) -> None:
        pending = crafted.path.joinpath(*PENDING)
        (pending / "sealing").write_bytes(b'{"seal": "x", "lowest": 0}')
        (pending / name).write_bytes(b"copy")

    return do


for _copy in ("unshared-", "unshared-x", "unshared-007"):
    add(_copy, _copy_of_an_inode(_copy), f"pending/next/{_copy}", gc=True)
add(
    "conflicts-no-hex",
    _write(*PENDING, "conflicts.json", data=b'{"shown": [["zz", "x"]]}'),
    "pending/next",
    gc=True,
)
for _what in ("symlink", "file", "missing", "fifo"):
    add(
        f"pending-directory-{_what}",
        _replace(*PENDING, what=_what),
        None if _what == "missing" else "pending/next",
        gc=_what == "missing",
    )
    add(f"pending-tree-{_what}", _replace(*PENDING, "tree", what=_what), "pending/next", gc=False)
    add(f"pending-runs-{_what}", _replace(*PENDING, "runs", what=_what), "pending/next", gc=True)

# ---- patches


def _base(**changes: Any) -> Do:
    def do(crafted: Crafted) -> None:
        path = crafted.path.joinpath(*PATCH, "tree", ".artfs@base")
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))

    return do


for _what, _data in FOREIGN.items():
    add(f"base-{_what}", _write(*PATCH, "tree", ".artfs@base", data=_data), "patch", gc=False)
for _what in (*KINDS, "missing"):
    add(f"base-{_what}", _replace(*PATCH, "tree", ".artfs@base", what=_what), "patch", gc=_what == "missing")
    if _what != "huge":
        add(
            f"lower-{_what}",
            _replace(*PATCH, "tree", ".artfs@lower", what=_what),
            "patch",
            gc=_what == "missing",
        )
for _what, _value in {
    "path": "xxh128:../../etc/passwd",
    "upper-case": "xxh128:" + "A" * 32,
    "missing": "xxh128:" + "0" * 32,
    "sha256": "sha256:" + "0" * 64,
}.items():
    add(f"base-tree-{_what}", _base(tree=_value), "patch|xxh128:0|sha256:0", gc=False)
add("base-collection", _base(collection="../good"), None, gc=True)
add("base-version", _base(version="v99"), None, gc=True)
add("base-ref", _base(ref="../../x"), None, gc=True)


def _lower(target: Callable[[Crafted], str | bytes]) -> Do:
    def do(crafted: Crafted) -> None:
        path = crafted.path.joinpath(*PATCH, "tree", ".artfs@lower")
        path.unlink()
        path.symlink_to(os.fsdecode(target(crafted)))

    return do


for _what, _value in {
    "word": "x",
    "no-number": "xxh128:" + "0" * 32,
    "missing": "xxh128:" + "0" * 32 + " 2b",
    "upper-case": "xxh128:" + "A" * 32 + " 1",
}.items():
    add(f"lower-of-{_what}", _lower(lambda _, v=_value: v), "patch|xxh128:0", gc=False)  # type: ignore[misc]
for _what, _value in {
    "negative": "-1",
    "huge": "f" * 30,
    "2-to-60": "1" + "0" * 15,
    "prefixed": "0x10",
    "underscores": "1_0",
    "blanks": " 10",
    "upper-case": "AB",
    "zeros": "001",
    "empty": "",
    "of-the-root": "1",
}.items():
    add(
        f"lower-number-{_what}",
        _lower(lambda c, v=_value: f"{text(c.root())} {v}"),  # type: ignore[misc]
        "patch",
        gc=False,
    )


def _in_patch(name: str, target: Callable[[Crafted], str | bytes]) -> Do:
    return lambda c: c.path.joinpath(*PATCH, "tree", name).symlink_to(os.fsdecode(target(c)))


STUBS: dict[str, Callable[[Crafted], str | bytes]] = {
    "word": lambda _: ".artfs-stub:x",
    "unknown": lambda _: ".artfs-other:x",
    "missing": lambda _: f".artfs-stub:644:xxh128:{'0' * 32}:file",
    "path": lambda _: ".artfs-stub:644:xxh128:../../../../etc/passwd:file",
    "upper-case": lambda _: f".artfs-stub:644:xxh128:{'A' * 32}:file",
    "no-name": lambda c: f".artfs-stub:644:{text(c.root())}:nothing",
    "empty-name": lambda c: f".artfs-stub:644:{text(c.root())}:",
    "up": lambda c: f".artfs-stub:644:{text(c.root())}:../file",
    "directory": lambda c: f".artfs-stub:644:{text(c.root())}:dir",
    "setuid": lambda c: f".artfs-stub:104755:{text(c.root())}:file",
    "mode-negative": lambda c: f".artfs-stub:-1:{text(c.root())}:file",
    "mode-huge": lambda c: f".artfs-stub:{'7' * 40}:{text(c.root())}:file",
    "mode-prefixed": lambda c: f".artfs-stub:0o644:{text(c.root())}:file",
}
for _what, _target in STUBS.items():
    add(f"stub-{_what}", _in_patch("stub", _target), "pending/patch", gc=True)
for _what in ("symlink", "file", "fifo"):
    add(f"gone-{_what}", _replace(*PATCH, "tree", ".artfs@gone", what=_what), "pending/patch", gc=True)
add(
    "gone-of-nothing",
    lambda c: c.path.joinpath(*PATCH, "tree/.artfs@gone/never-there").touch(),
    None,
    gc=True,
)
add(
    "gone-directory",
    lambda c: c.path.joinpath(*PATCH, "tree/.artfs@gone/file").mkdir(),
    None,
    gc=True,
)

# ---- runs and the volume's own files

for _what, _data in FOREIGN.items():
    add(f"run-{_what}", _write("runs", "run-1.json", data=_data), r"runs/run-1\.json", gc=True)
    add(f"serial-{_what}", _write("serial", data=_data), "serial", gc=True, finish=False)
for _what in KINDS:
    add(f"run-{_what}", _replace("runs", "run-1.json", what=_what), r"runs/run-1\.json", gc=True)
    add(f"serial-{_what}", _replace("serial", what=_what), "serial", gc=True, finish=False)
add("run-foreign", _write("runs", "what is this", data=b""), "runs/what is this", gc=True)
add("run-other", _write("runs", "run-1.json", data=b'{"id": "run-7"}'), r"runs/run-1\.json", gc=True)
add("serial-most", _write("serial", data=b"67108863\n"), None, gc=True, finish=False)
add("serial-lost", _replace("serial", what="missing"), "serial", gc=True)
add("serial-old", _write("serial", data=b"1\n"), "serial", gc=True)
add("serial-negative", _write("serial", data=b"-1\n"), "serial", gc=True, finish=False)
add("mark-of-damage", _write("damaged", "what is this", data=b""), None, gc=True)
