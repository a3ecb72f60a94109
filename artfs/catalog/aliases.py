"""The aliases of one collection: one small file each, with the name of a version or of another alias.

Owns ``aliases/``, and computes ``latest``. Must not know the content of versions. Blocking; any thread
may call it, and several processes work on the same directory. Nothing is cached.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from artfs.catalog import small_files
from artfs.catalog.collection_directory import CollectionDirectory
from artfs.catalog.versions import Versions
from artfs.errors import AliasNotFound, AlreadyExists, Damaged, InvalidCommand, InvalidName, VersionNotFound
from artfs.model.names import LATEST, check_alias, parse_version
from artfs.store import durable

MAX_CHAIN = 40
"""The longest chain of aliases: as many links as the kernel follows (path_resolution(7))."""


class AliasTarget(NamedTuple):
    """Where a name leads. It keeps a ``held`` version from deletion, unless it leads through ``latest``."""

    number: int
    held: bool


class Aliases:
    def __init__(self, directory: CollectionDirectory, versions: Versions) -> None:
        self._directory, self._versions = directory, versions

    def names(self) -> list[str]:
        """Returns the names of all aliases but ``latest``, sorted, without reading them."""
        with self._directory.opened(b"aliases") as fd:
            names = (os.fsdecode(entry) for entry in os.listdir(fd))
            return sorted(name for name in names if _legal(name))

    def targets(self) -> dict[str, str]:
        """Returns the target of each alias, as it was given: a version, ``latest`` or another alias."""
        with self._directory.opened(b"aliases") as fd:
            found = {name: self._read(fd, name) for name in self.names()}
        return {name: _target(raw) for name, raw in found.items() if raw is not None}

    def target(self, name: str) -> str:
        """Raises AliasNotFound."""
        if name == LATEST:
            newest = self._versions.newest()
            if newest is None:
                raise AliasNotFound(self._directory.name, name)
            return newest.version
        raw = None
        if _legal(name):
            with self._directory.opened(b"aliases") as fd:
                raw = self._read(fd, name)
        if raw is None:
            raise AliasNotFound(self._directory.name, name)
        return _target(raw)

    def resolve(self, ref: str) -> int:
        """Returns the number of the version that a version's name, ``latest`` or an alias leads to.

        Raises VersionNotFound, and InvalidCommand for a loop of aliases.
        """
        if parse_version(ref) is not None or ref == LATEST:
            return self._follow(ref, lambda _: None).number
        with self._directory.opened(b"aliases") as fd:
            return self._follow(ref, lambda name: self._read(fd, name)).number

    def leading(self) -> dict[str, AliasTarget]:
        """Returns where each alias leads, ``latest`` last. Aliases that lead nowhere are left out.

        Raises Damaged if an alias can't be read, since it might hold any version.
        """
        with self._directory.opened(b"aliases") as fd:
            found = {name: self._read(fd, name) for name in self.names()}
        leading = {}
        for name in (*found, LATEST):
            try:
                leading[name] = self._follow(name, found.get)
            except (VersionNotFound, InvalidCommand):
                continue
        return leading

    def set(self, name: str, target: str, *, replace: bool = True) -> int:
        """Sets or moves an alias durably, and returns the number of the version that it leads to.

        Raises InvalidName, VersionNotFound, InvalidCommand for a loop, and, without ``replace``,
        AlreadyExists.
        """
        self._check_settable(name)
        with self._alone() as fd:
            return self._set(fd, name, target, replace)

    def remove(self, name: str) -> None:
        """Removes an alias durably. Aliases that lead to it lead nowhere then. Raises AliasNotFound."""
        self._check_settable(name)
        with self._alone() as fd:
            self._remove(fd, name)

    def rename(self, old: str, new: str, *, replace: bool = True) -> None:
        """Sets ``new`` to the target of ``old``, then removes ``old``. A crash may leave both."""
        self._check_settable(old)
        self._check_settable(new)
        if old != new:
            with self._alone() as fd:
                self._set(fd, new, self.target(old), replace)
                self._remove(fd, old)

    # --- inside ---

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Opens the directory, and excludes changes of aliases and deletions of versions.

        So the target of an alias exists until the alias is set, and two callers can't make a loop together.
        """
        with self._directory.locked(), self._directory.opened(b"aliases") as fd:
            yield fd

    def _set(self, fd: int, name: str, target: str, replace: bool) -> int:
        before = self._read(fd, name)
        if before is not None and not replace:
            raise AlreadyExists(f"'{self._directory.name}' has an alias '{name}' already")
        number = self._leads_with(fd, name, target).number
        data = f"{target}\n".encode("utf-8", "surrogateescape")
        if before != data:
            durable.replace_if_unchanged(fd, name.encode(), before, data, label="alias")
        else:
            durable.confirm(fd, label="alias")
        return number

    def _remove(self, fd: int, name: str) -> None:
        before = self._read(fd, name)
        if before is None:
            raise AliasNotFound(self._directory.name, name)
        durable.replace_if_unchanged(fd, name.encode(), before, None, label="alias")

    def _check_settable(self, name: str) -> None:
        check_alias(name)
        if name == LATEST:
            raise InvalidName("an alias", name, "it always names the newest version by itself")

    def _leads_with(self, fd: int, name: str, target: str) -> AliasTarget:
        """Returns where an alias would lead if it named ``target``."""
        return self._follow(target, lambda other: self._read(fd, other), (name,))

    def _follow(
        self, ref: str, read: Callable[[str], bytes | None], passed: Collection[str] = ()
    ) -> AliasTarget:
        chain = [*passed]
        while True:
            if ref == LATEST:
                newest = self._versions.newest()
                if newest is None:
                    raise self._nowhere(chain, ref)
                return AliasTarget(newest.number, held=False)
            number = parse_version(ref)
            if number is not None:
                if not self._versions.exists(number):
                    raise self._nowhere(chain, ref)
                return AliasTarget(number, held=True)
            if ref in chain or len(chain) > MAX_CHAIN:
                circle = " -> ".join([*chain[:MAX_CHAIN], ref])
                raise InvalidCommand(f"aliases of '{self._directory.name}' are a loop: {circle}")
            raw = read(ref) if _legal(ref) else None
            if raw is None:
                raise self._nowhere(chain, ref)
            chain.append(ref)
            ref = _target(raw)

    def _nowhere(self, chain: list[str], ref: str) -> VersionNotFound:
        return VersionNotFound(self._directory.name, " -> ".join([*chain, ref]))

    def _read(self, fd: int, name: str) -> bytes | None:
        """Returns the bytes of the file, after a check that they are a legal target and a newline."""
        what = self._directory.what(b"aliases", name.encode())
        raw = small_files.read(fd, name.encode(), what)
        if raw is not None:
            target = os.fsdecode(raw.removesuffix(b"\n"))
            if not raw.endswith(b"\n") or not (_legal(target) or parse_version(target) is not None):
                raise Damaged(what, "it names no version or alias")
        return raw


def _target(raw: bytes) -> str:
    return raw.decode().removesuffix("\n")


def _legal(name: str) -> bool:
    try:
        check_alias(name)
    except InvalidName:
        return False
    return True
