"""Where tables of calls are run: slots in a real directory, and in trees of a mount.

Owns when the trees are made: a table's base and its patches once, each slot when a test needs it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from tests.conformance.comparing import Builder, Slot, lift_everything
from tests.conformance.driver import OsFilesystem
from tests.mount.mounting import PLACE, MountedVolume
from tests.mount.patching import backing


class Arena:
    """The slots of one table."""

    def __init__(
        self,
        mounted: MountedVolume,
        table: str,
        builders: Mapping[str, Builder],
        tree: Callable[[], Path],
    ) -> None:
        self._mounted, self._table, self._builders, self._tree = mounted, table, builders, tree
        self._trees: dict[str, Path] = {}
        self._base = ""

    def slot(self, reference: Path, make: str, name: str, user: str) -> Slot:
        """A fresh slot; each make and user gets a name once."""
        build = self._builders[name]
        key = f"{make}, {user}" if make != "plain" else make
        if key not in self._trees:
            self._trees[key] = self._new_tree(patch=make != "plain")
        directory = name.replace("/", "|")
        place = self._trees[key] / (f"{user}, {directory}" if make == "plain" else directory)
        mirror = reference / f"{self._table}, {make}, {user}, {directory}"
        mirror.mkdir()
        stages = {mirror: (True, False), place: (False,)}
        if make == "plain":
            place.mkdir()
            stages[place] = (True, False)
        for path, firsts in stages.items():
            for first in firsts:
                build(OsFilesystem(path), first)
        if make == "lifted":
            lift_everything(OsFilesystem(place))
        return Slot(os.fsencode(mirror), os.fsencode(place), patch=make != "plain")

    def _new_tree(self, *, patch: bool) -> Path:
        tree = self._tree()
        if not patch:
            return tree
        if not self._base:
            self._base = self._new_base()
        (tree / ".artfs" / "base").write_text(self._base + "\n")
        return tree

    def _new_base(self) -> str:
        tree = self._tree()
        # Directly on the disk, since these are thousands of files and the mount has not seen the tree yet.
        below = backing(self._mounted, tree) / "tree"
        for name, build in self._builders.items():
            place = below / name.replace("/", "|")
            place.mkdir()
            build(OsFilesystem(place), True)
        (tree / ".artfs" / "finish").write_text("\n")
        return Path(os.readlink(tree)).name


class Arenas:
    """All tables' slots on one mount, and the reference directory."""

    def __init__(self, mounted: MountedVolume, tree: Callable[[], Path]) -> None:
        self.mounted, self._tree = mounted, tree
        self._arenas: dict[str, Arena] = {}
        self._reference = Path(tempfile.mkdtemp(prefix="artfs-reference-", dir=PLACE))
        self._reference.chmod(0o755)

    def slot(self, table: str, builders: Mapping[str, Builder], make: str, name: str, user: str) -> Slot:
        """A fresh slot of a table, whose builders get the names of its slots."""
        if table not in self._arenas:
            self._arenas[table] = Arena(self.mounted, table, builders, self._tree)
        return self._arenas[table].slot(self._reference, make, name, user)

    def __enter__(self) -> Arenas:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._reference)
