"""One directory of a patch: what shows in it, and the order of steps that changes it.

Owns the rules that a mount and a program that works on the volume share; :mod:`~artfs.pending.overlay` has
the single steps, and says why a crash between any two is safe. A directory is *materialized* once it exists
in the pending tree. Until then it only shows through from the lower tree, as do its entries.

Must not know nodes or FUSE. Blocking; one change of a directory at a time.
"""

from __future__ import annotations

from artfs.model.entry import DirEntry, Entry, FileEntry, ReferenceEntry, SymlinkEntry
from artfs.model.tree import TreeReader
from artfs.pending import overlay
from artfs.pending.overlay import Lower, Stub


class OverlayDirectory:
    """Base of whatever represents a directory of a patch; it supplies the four members declared here."""

    __slots__ = ()

    #: The sealed directory below; None if only own entries show.
    lower: Lower | None

    @property
    def reader(self) -> TreeReader:
        """Reads the lower tree."""
        raise NotImplementedError

    @property
    def staging(self) -> int:
        """The directory in which new entries are built."""
        raise NotImplementedError

    def own_fd(self) -> int:
        """Returns a descriptor of the directory in the pending tree; -1 if it is not materialized."""
        raise NotImplementedError

    # -- what shows

    def lower_entry(self, name: bytes) -> Entry | None:
        """Returns the lower entry of a name unless it is whited out. An own entry may cover it."""
        if self.lower is None:
            return None
        found = self.reader.find(self.lower.tree, name)
        if found is None:
            return None
        fd = self.own_fd()
        return None if fd >= 0 and overlay.is_whited_out(fd, name) else found[1]

    def is_empty(self) -> bool:
        """Tells whether nothing shows in the directory."""
        names = 0 if self.lower is None else self.reader.page(self.lower.tree).names
        fd = self.own_fd()
        return names == 0 if fd < 0 else overlay.looks_empty(fd, names)

    # -- materializing, which changes nothing that users see

    def materialize_below(self, name: bytes, entry: DirEntry, lower: Lower) -> int:
        """Materializes the directory `name` of this directory; returns its backing inode number.

        Raises FileExistsError if the name has an own entry.
        """
        staged = overlay.stage_directory(self.staging, entry, lower)
        return overlay.place_directory(self.staging, staged, self.own_fd(), name)

    def materialize_file(
        self, name: bytes, entry: FileEntry | ReferenceEntry | SymlinkEntry
    ) -> tuple[int, Stub | None]:
        """Makes a lower symlink an own one, or a stub of a lower file, under the same name.

        Returns the backing inode number and the stub.
        """
        if isinstance(entry, SymlinkEntry):
            return self.place(overlay.stage_symlink(self.staging, entry), name, "symlink"), None
        assert self.lower is not None
        stub = Stub(self.lower.tree, name, entry.mode)
        return self.place_stub(name, stub, entry.uid, entry.gid, (entry.mtime_ns, entry.mtime_ns)), stub

    def place_stub(self, name: bytes, stub: Stub, uid: int, gid: int, times: tuple[int, int]) -> int:
        """Gives a name a stub; `times` are atime and mtime in nanoseconds. Returns its inode number."""
        return self.place(overlay.stage_stub(self.staging, stub, uid, gid, times), name, "stub")

    def place(self, staged: bytes, name: bytes, step: str) -> int:
        """Moves a staged file to a name, over what is there; returns its inode number."""
        return overlay.place(self.staging, staged, self.own_fd(), name, step=step)

    # -- removing

    def white_out(self, name: bytes) -> None:
        """Hides the lower entry of a name, now or once the own entry of the name is removed."""
        if self.lower is not None and self.reader.find(self.lower.tree, name) is not None:
            overlay.white_out(self.own_fd(), name)

    def drop_lower(self) -> None:
        """Leaves an empty directory without a lower one, so that it can be removed or replaced."""
        fd = self.own_fd()
        if fd >= 0:
            overlay.drop_lower(fd, self.staging)
            self.lower = None  # type: ignore[misc]  # a slot of the subclass

    def prepare_removal(self, name: bytes, directory: OverlayDirectory | None) -> None:
        """Does all of a removal but the unlink(2) or rmdir(2) of the own entry, if there is one.

        `directory` is what the name is, if it is a directory, which must be empty.
        """
        # The whiteout first: otherwise the lower entry reappears after a crash between the two steps.
        self.white_out(name)
        if directory is not None:
            directory.drop_lower()
