"""References to entries of versions of the same volume: ``artfs://COLLECTION:V/PATH``.

Owns: the syntax of these URIs, what they lead to, and who may follow them. Must not know other URIs and
caches. Blocking; any thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from urllib.parse import unquote, unquote_to_bytes

from artfs.errors import Changed, InvalidCommand, InvalidName, NotFound, Unreachable
from artfs.model import digest, manifest, names
from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry
from artfs.printing import printable
from artfs.references import FoundObject, uris
from artfs.references.uris import ChargeMemory
from artfs.seal.patch_base import Find, record_of
from artfs.store.objects import ObjectStore

SCHEME = "artfs://"
# Group and others: a user may be in either.
_ALL_PASS, _ALL_READ, _ALL_LIST = 0o011, 0o044, 0o055


class VersionReferences:
    """Lists and opens what ``artfs://`` URIs lead to.

    With ``world_readable_only``, only what every user may read.
    """

    def __init__(self, store: ObjectStore, find: Find, *, world_readable_only: bool) -> None:
        self._store, self._find, self._world_readable_only = store, find, world_readable_only

    def list_objects(
        self,
        uri: str,
        *,
        checksum: bool,
        max_objects: int,
        charge: ChargeMemory,
        check: Callable[[str], None],
    ) -> tuple[list[FoundObject], bool]:
        """Returns the files at or below a URI, and whether it names a file itself.

        A reference counts as what it refers to, for which it calls ``check``. Raises InvalidCommand,
        InvalidName, NotFound and Unreachable.
        """
        collection, version, path, entry = self._resolve(uri)

        def found(name: bytes, path: bytes, entry: FileEntry | ReferenceEntry) -> FoundObject:
            if isinstance(entry, ReferenceEntry):
                target, recorded = os.fsdecode(entry.uri), entry.checksum
                check(target)
            else:
                target, recorded = uri_of(collection, version, path), digest.text(entry.blob).encode()
            return FoundObject(name, target, entry.size, recorded if checksum else b"")

        if isinstance(entry, FileEntry | ReferenceEntry):
            if max_objects < 1:
                raise uris.too_many(uri, max_objects)
            return [found(entry.name, path, entry)], True
        if not isinstance(entry, DirEntry):
            raise InvalidCommand(f"'{printable(uri)}' is neither a file nor a directory")
        if entry.files > max_objects:
            raise uris.too_many(uri, max_objects)
        prefix = path + b"/" if path else b""
        objects = []
        for below, child in manifest.walk(self._store.reader, entry):
            if isinstance(child, FileEntry | ReferenceEntry):
                objects.append(found(below, prefix + below, child))
                charge(objects[-1].memory)
        return objects, False

    def open(self, uri: str, entry: ReferenceEntry) -> int:
        """Opens the recorded file for reading. Raises as :meth:`verify` does, and Damaged."""
        return self._store.open_verified(self.verify(uri, entry).blob, entry.size)

    def verify(self, uri: str, entry: ReferenceEntry) -> FileEntry:
        """Returns the file that a URI leads to. Raises Changed unless it is the recorded one; Unreachable."""
        try:
            found = self._resolve(uri)[3]
        except (NotFound, InvalidCommand, InvalidName) as error:
            raise Unreachable(uri, str(error)) from None
        present = digest.text(found.blob) if isinstance(found, FileEntry) else "no file"
        recorded = entry.checksum.decode("utf-8", "replace")
        if not isinstance(found, FileEntry) or (recorded and recorded != present):
            raise Changed(uri, recorded, present)
        if found.size != entry.size:
            raise Changed(uri, f"{entry.size} bytes", f"{found.size} bytes")
        return found

    def _resolve(self, uri: str) -> tuple[str, str, bytes, Entry]:
        """Returns the collection, version and path that a URI names, and the entry there."""
        version, parts = parse(uri)
        name = version.partition(":")[0]
        if self._world_readable_only:  # first: otherwise the answer would tell what there is
            with self._find(name).opened() as fd:
                if os.fstat(fd).st_mode & _ALL_PASS != _ALL_PASS:
                    raise Unreachable(uri, f"not every user may read the collection '{name}'")
        collection, record = record_of(self._find, name, version)
        root = record.root.entry()
        if self._world_readable_only:
            self._check_open_to_all(uri, root, parts)
        found = manifest.find(self._store.reader, root, b"/".join(parts))
        if found is None:
            raise Unreachable(uri, f"{collection.name}:{record.version} has no such path")
        return collection.name, record.version, b"/".join(parts), found

    def _check_open_to_all(self, uri: str, root: DirEntry, parts: Sequence[bytes]) -> None:
        for depth in range(len(parts) + 1):
            entry = manifest.find(self._store.reader, root, b"/".join(parts[:depth]))
            if isinstance(entry, DirEntry):
                if entry.mode & _ALL_PASS != _ALL_PASS:
                    raise Unreachable(uri, "not every user may read it: a directory of its path is closed")
                if depth == len(parts) and entry.reach & _ALL_LIST != _ALL_LIST:
                    raise Unreachable(uri, "not every user may list it")
            elif isinstance(entry, FileEntry | ReferenceEntry) and entry.mode & _ALL_READ != _ALL_READ:
                raise Unreachable(uri, "not every user may read it")


def uri_of(collection: str, version: str, path: bytes) -> str:
    """Returns the URI of a path in a version, percent-encoded."""
    return f"{SCHEME}{collection}:{version}/{uris.quoted(path)}".rstrip("/")


def parse(uri: str) -> tuple[str, list[bytes]]:
    """Returns the version that a URI names, and the components of its path; raises InvalidCommand.

    In the URI both are percent-encoded.
    """
    version, _, path = uri.removeprefix(SCHEME).partition("/")
    name, ref = names.split_reference(version)
    if not (name and ref):
        raise InvalidCommand(f"'{printable(uri)}' is not artfs://COLLECTION:V/PATH")
    raw = unquote_to_bytes(path.encode("utf-8", "surrogateescape"))
    parts = [part for part in raw.split(b"/") if part]
    if b"\0" in raw or not {b".", b".."}.isdisjoint(parts):
        raise InvalidCommand(f"'{printable(uri)}' has ., .. or %00 in its path, which is not allowed")
    return f"{name}:{unquote(ref)}", parts
