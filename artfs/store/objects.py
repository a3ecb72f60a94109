"""Blobs and tree pages by id: looked up, linked in, read, made durable.

Owns: ``objects/`` of a volume, the choice of a blob's collision counter, the cache of pages. Must not know
versions or pending trees. Any thread and any number of processes may use one volume.

Nothing that is linked or put is durable before :meth:`ObjectStore.sync`: after a crash an object may be
missing, short or hold zeros. So no object is trusted because it exists. A caller that stores the same bytes
again compares them with the stored ones, and replaces those if they do not match their name. After a failed
flush (:mod:`.failed_flush`) that is not enough, since the bytes compared may be in memory only: then all is
written anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from artfs.errors import Damaged, LostRace
from artfs.linux.file_copy import copy_file
from artfs.model import pages
from artfs.model.digest import Algorithm, BlobId, TreeId, blob_id, digest_of, text, tree_id
from artfs.model.entry import Entry, FileEntry
from artfs.model.tree import TreeReader
from artfs.store import durable, layout, regular_files, tree_removal
from artfs.store.damaged_blobs import DamagedBlobs
from artfs.store.documents import file_error
from artfs.store.failed_flush import FailedFlush
from artfs.store.flush import Flush
from artfs.store.shards import blob_path, in_shard, move_in, scan, size_of, tree_path
from artfs.store.verified_blobs import LARGEST, VerifiedBlobs

_CACHED_ENTRIES = 200_000
_MAY_HAVE_HOLES = 1 << 20  # bytes
# No page of a legal tree is longer: 2,048 entries, each with the longest URI and checksum.
_LONGEST_PAGE = 512 << 20

# A page that is stored again replaces one that can't be read for these reasons.
_UNREADABLE = (errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EFBIG, errno.EIO, errno.EACCES)

# Where a hard link is impossible a copy is stored: too many links to the inode (65,000 on ext4: the *source*
# has them, in its pending tree), another filesystem or project quota, a filesystem without links, or
# fs.protected_hardlinks for another user's file.
_COPY_INSTEAD = (errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS)


def full_blocks(size: int) -> int:
    """Returns st_blocks of a file of `size` bytes without holes."""
    return -(-size // 512)


class ObjectStore:
    """The objects of one volume. It keeps descriptors of its own; ``root_fd`` may be closed."""

    def __init__(self, root_fd: int, algorithm: Algorithm, *, verify_all: bool = False) -> None:
        self.algorithm = algorithm
        self._objects_fd = durable.open_directory(root_fd, layout.OBJECTS)
        self.blobs_fd = durable.open_directory(root_fd, layout.BLOBS)
        self.trees_fd = durable.open_directory(root_fd, layout.TREES)
        self._damaged_fd = durable.open_directory(root_fd, layout.DAMAGED)
        self.damaged_blobs = DamagedBlobs(self._damaged_fd)
        self.verified = VerifiedBlobs(algorithm, largest=sys.maxsize if verify_all else LARGEST)
        self.reader = TreeReader(self.page)
        self.failed_flush = FailedFlush(self._objects_fd)
        self._syncing = threading.Lock()
        self._flush = Flush((self.blobs_fd, self.trees_fd), self.failed_flush.record)
        # Not a cachetools.LRUCache, which makes each hit 1 us slower: every lookup in a version has one.
        self._cache: OrderedDict[TreeId, pages.Page] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._cached = 0  # entries of the pages in it

    def close(self) -> None:
        """Closes the store's descriptors. No other call may be under way."""
        for fd in (self._objects_fd, self.blobs_fd, self.trees_fd, self._damaged_fd):
            os.close(fd)

    def hash_fd(self, fd: int) -> bytes:
        """Returns the digest of a file's bytes."""
        return regular_files.hash_fd(self.algorithm, fd)

    # --- blobs

    def identify(self, digest: bytes, fd: int) -> tuple[BlobId, bool]:
        """Returns the id of a file's bytes, whose digest is given, and whether they are stored.

        Stored means: compared byte by byte just now, or the same inode. SHA-256 is no exception: its digests
        can be trusted, the disk can't. If the bytes differ, the stored blob is hashed. If it is damaged,
        its id is returned as not stored, and :meth:`link` replaces it; if it is sound, the two collide and
        the next counter is tried.

        After a failed flush nothing counts as stored.
        """
        counter = 0
        while True:
            blob = blob_id(self.algorithm, digest, counter)
            state = self._compare(blob, fd)
            if state is None:
                counter += 1
                continue
            if self.failed_flush.active:
                state = False
            if state:
                self._flush.add(self.blobs_fd, blob_path(blob))
                self._unmark(blob)
            return blob, state

    def link(self, blob: BlobId, dir_fd: int, name: bytes, *, fd: int | None = None) -> None:
        """Links the regular file at (``dir_fd``, ``name``) into the store, so that it *is* the blob.

        The caller has hashed the file, and no process writes it any more. ``fd``, if given, is that file
        opened: then what was linked is checked to be the same inode. Where a hard link is impossible, a copy
        is stored and hashed. A damaged blob of this id is replaced atomically; a sound one is kept if it has
        the same bytes. Raises LostRace if it has others, or if the file is no longer what was hashed:
        identify again.

        After a failed flush a copy is stored in any case.
        """
        path = blob_path(blob)
        durable.step("objects:link")
        try:
            if self.failed_flush.active:
                raise OSError(errno.EXDEV, "the file may not be on the disk")
            in_shard(
                self.blobs_fd,
                path,
                lambda: os.link(
                    name, path, src_dir_fd=dir_fd, dst_dir_fd=self.blobs_fd, follow_symlinks=False
                ),
            )
        except FileExistsError:
            self._link_over(blob, path, dir_fd, name, fd)
        except OSError as error:
            if error.errno not in _COPY_INSTEAD:
                raise
            with _source(dir_fd, name, fd) as source:
                self._copy_in(blob, source)
        else:
            found = os.stat(path, dir_fd=self.blobs_fd, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or (
                fd is not None and not os.path.samestat(found, os.fstat(fd))
            ):
                os.unlink(path, dir_fd=self.blobs_fd)
                raise LostRace(f"the file for blob {text(blob)} was replaced meanwhile")
        self._flush.add(self.blobs_fd, path)
        self._unmark(blob)

    def add_file(self, fd: int) -> BlobId:
        """Stores a copy of a file that may be written meanwhile: hashes exactly the bytes that it stores."""
        with durable.temp_file(self.blobs_fd) as (temp, temp_fd):
            copy_file(fd, temp_fd)
            while True:
                blob, stored = self.identify(self.hash_fd(temp_fd), temp_fd)
                if stored:
                    return blob
                with contextlib.suppress(LostRace):
                    self.link(blob, self.blobs_fd, temp, fd=temp_fd)
                    return blob

    def open_blob(self, blob: BlobId, size: int | None = None, *, known: Sequence[int] = ()) -> int:
        """Opens a blob for reading and returns the descriptor.

        If gc has removed its name, one of its `known` descriptors is opened again.

        Raises Damaged if it is missing, marked, no regular file, or not of ``size`` bytes; PermissionError if
        another user owns it. Its bytes are not verified: see ``verified`` and :meth:`open_verified`.
        """
        if blob in self.damaged_blobs:
            raise Damaged(f"blob {text(blob)}", "a check found that its bytes do not match its digest")
        try:
            fd = regular_files.open_regular(self.blobs_fd, blob_path(blob))
        except OSError as error:
            opened = known[0] if known and isinstance(error, FileNotFoundError) else None
            if opened is None:
                raise file_error(error, f"blob {text(blob)}") from None
            fd = os.open(f"/proc/self/fd/{opened}", os.O_RDONLY | os.O_CLOEXEC)
        if size is not None and (found := os.fstat(fd).st_size) != size:
            os.close(fd)
            raise Damaged(f"blob {text(blob)}", f"it has {found} bytes instead of {size}")
        return fd

    def blocks(self, entry: Entry, size: int) -> int:
        """Returns st_blocks of an entry of `size` bytes: for a large file what is stored, so that holes show.

        Small files count as full: their holes save a read or two, while the stat(2) of each would make the
        first walk up to twice as long. References count as full, too: a program that reads one (tar, cp) must
        not take it for a hole.
        """
        if isinstance(entry, FileEntry) and size >= _MAY_HAVE_HOLES:
            with contextlib.suppress(OSError):
                return os.stat(blob_path(entry.blob), dir_fd=self.blobs_fd, follow_symlinks=False).st_blocks
        return full_blocks(size)

    def open_verified(self, blob: BlobId, size: int | None = None) -> int:
        """Opens a blob as :meth:`open_blob` does, and verifies it first if necessary."""
        fd = self.open_blob(blob, size)
        try:
            if self.verified.needs_check(blob, fd):
                self.verified.check(blob, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def replace_blob(self, blob: BlobId, fd: int) -> None:
        """Replaces a missing or damaged blob by a copy of a file; the caller removes its mark after a sync.

        Raises LostRace if the file's bytes do not match the id, or the stored blob is sound and differs.
        """
        self._copy_in(blob, fd)
        self._flush.add(self.blobs_fd, blob_path(blob))

    def verify_blob(self, blob: BlobId) -> tuple[bytes | None, int, str]:
        """Reads a whole blob; returns its actual digest (None if it can't be read), its size, what is wrong.

        The last is empty for a sound blob. Marks are ignored.
        """
        try:
            fd = regular_files.open_regular(self.blobs_fd, blob_path(blob))
        except FileNotFoundError:
            return None, 0, "it is missing"
        except OSError as error:
            return None, 0, f"it can't be opened: {error.strerror}"
        try:
            digest, size = regular_files.hash_and_size(self.algorithm, fd)
        except OSError as error:
            return None, 0, f"it can't be read: {error.strerror}"
        finally:
            os.close(fd)
        return digest, size, "" if digest == digest_of(blob) else "its bytes do not match its digest"

    # --- pages of trees

    def put(self, tree: TreeId, data: bytes) -> None:
        """Stores a page under the id of its bytes: ``put`` for ``model.tree``. Replaces a damaged page."""
        path = tree_path(tree)
        durable.step("objects:put")
        try:
            stored: bytes | None = durable.read(self.trees_fd, path, _LONGEST_PAGE)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            stored = None
        if stored != data or self.failed_flush.active:
            with durable.temp_file(self.trees_fd) as (temp, fd):
                durable.write_all(fd, data)
                move_in(self.trees_fd, temp, path)
        self._flush.add(self.trees_fd, path)

    def page(self, tree: TreeId) -> pages.Page:
        """Returns a page from the cache, or reads and verifies it. Raises Damaged."""
        with self._cache_lock:
            if (page := self._cache.get(tree)) is not None:
                self._cache.move_to_end(tree)
                return page
        page = self.read_page(tree)
        with self._cache_lock:
            if tree not in self._cache:
                self._cache[tree] = page
                self._cached += len(page) + 1
                while self._cached > _CACHED_ENTRIES and len(self._cache) > 1:
                    self._cached -= len(self._cache.popitem(last=False)[1]) + 1
        return page

    def read_page(self, tree: TreeId) -> pages.Page:
        """Reads and verifies a page, without the cache. Raises Damaged."""
        what = f"tree {text(tree)}"
        try:
            data = durable.read(self.trees_fd, tree_path(tree), _LONGEST_PAGE)
        except OSError as error:
            raise file_error(error, what) from None
        if tree_id(self.algorithm, data) != tree:
            raise Damaged(what, "its bytes do not match its digest")
        return pages.decode(data, what)

    # --- both

    def begin(self) -> int:
        """Returns ``since`` for :meth:`sync`. To be called before anything is stored."""
        self.failed_flush.refresh()
        return self.failed_flush.count

    def sync(self, *, since: int) -> None:
        """Makes durable all that was linked, put or found stored before the call, by any thread.

        On ext4, xfs and btrfs one syncfs(2), which includes the data of linked files; elsewhere an fsync of
        each file and each directory. Raises OSError: then nothing is known to be durable, and a failed flush
        is recorded if the disk reported it.

        ``since`` is the result of :meth:`begin`. Raises LostRace if a flush has failed after that, also in
        another process: the kernel reports an error once per descriptor, so that the other flush may have
        received the error for the caller's bytes. The caller must store everything again.
        """
        # One at a time: no call succeeds between the failure of another and its record, and a call that
        # finds nothing to do has waited for the one that does it.
        with self._syncing:
            durable.step("objects:sync")
            self._flush.flush()
            self.failed_flush.refresh()
            if self.failed_flush.count != since:
                raise LostRace("a flush has failed meanwhile; store the files again")

    def blobs(self) -> Iterator[BlobId]:
        """Yields the ids of all stored blobs. May miss what is added or removed meanwhile."""
        for shard, name in scan(self.blobs_fd):
            with contextlib.suppress(ValueError):
                digest, _, counter = name.partition("-")
                yield blob_id(self.algorithm, bytes.fromhex(shard + digest), int(counter or 0))

    def trees(self) -> Iterator[TreeId]:
        """Yields the ids of all stored pages."""
        size = 2 * self.algorithm.size - 2
        for shard, name in scan(self.trees_fd):
            if len(name) == size:
                yield TreeId(self.algorithm.prefix + bytes.fromhex(shard + name))

    def blob_size(self, blob: BlobId) -> int | None:
        """Returns the size of a blob's file, None if it is missing or not a regular file."""
        return size_of(self.blobs_fd, blob_path(blob))

    def tree_size(self, tree: TreeId) -> int | None:
        """Returns the size of a page's file, None if it is missing or not a regular file."""
        return size_of(self.trees_fd, tree_path(tree))

    def remove_blob(self, blob: BlobId) -> None:
        """Removes a blob and its mark. For gc only, under the exclusive lock."""
        durable.step("objects:unlink")
        os.unlink(blob_path(blob), dir_fd=self.blobs_fd)
        self._unmark(blob)

    def remove_tree(self, tree: TreeId) -> None:
        """Removes a page. For gc only, under the exclusive lock."""
        durable.step("objects:unlink")
        os.unlink(tree_path(tree), dir_fd=self.trees_fd)
        with self._cache_lock:
            if (page := self._cache.pop(tree, None)) is not None:
                self._cached -= len(page) + 1

    def sweep_temps(self, *, any_age: bool = False, dry_run: bool = False) -> int:
        """Removes temps that were left behind; with ``any_age`` all, for the holder of the exclusive lock."""
        # Temps are only here, never in the shards.
        return sum(
            tree_removal.sweep_temps(fd, any_age=any_age, dry_run=dry_run, directories=False)
            for fd in (self.blobs_fd, self.trees_fd)
        )

    # --- within

    def _compare(self, blob: BlobId, fd: int) -> bool | None:
        """Returns True if stored with the bytes of ``fd``, False if missing or damaged, None if others."""
        path = blob_path(blob)
        try:
            found = os.stat(path, dir_fd=self.blobs_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        given = os.fstat(fd)
        if os.path.samestat(found, given):
            return True
        if not stat.S_ISREG(found.st_mode):
            return False
        if found.st_size == given.st_size == 0:  # all empty files are equal
            return True
        try:
            stored = regular_files.open_regular(self.blobs_fd, path)
        except FileNotFoundError:
            return False
        try:
            try:
                if regular_files.same_bytes(stored, fd):
                    return True
                failed = None
            except OSError as error:
                failed = error  # of the stored file, if it can't be hashed either
            try:
                sound = self.hash_fd(stored) == digest_of(blob)
            except OSError:
                return False
            if failed is not None and sound:
                raise failed
            return None if sound else False
        finally:
            os.close(stored)

    def _link_over(self, blob: BlobId, path: bytes, dir_fd: int, name: bytes, fd: int | None) -> None:
        """Links to an id that exists: compares, and replaces a damaged blob."""
        with _source(dir_fd, name, fd) as source:
            state = self._compare(blob, source)
            if state is None:
                raise LostRace(f"blob {text(blob)} was stored with other bytes meanwhile")
            if state:
                return
            temp = durable.temp_name()
            try:
                os.link(name, temp, src_dir_fd=dir_fd, dst_dir_fd=self.blobs_fd, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _COPY_INSTEAD:
                    raise
                self._copy_in(blob, source)
                return
            try:
                linked = os.stat(temp, dir_fd=self.blobs_fd, follow_symlinks=False)
                if not os.path.samestat(linked, os.fstat(source)):
                    raise LostRace(f"the file for blob {text(blob)} was replaced meanwhile")
                os.rename(temp, path, src_dir_fd=self.blobs_fd, dst_dir_fd=self.blobs_fd)
            finally:
                # Also after the rename, which does nothing between two names of one inode (POSIX).
                regular_files.unlink_quietly(self.blobs_fd, temp)

    def _copy_in(self, blob: BlobId, source: int) -> None:
        """Stores a copy under an id that is missing or damaged, after it has hashed the copy."""
        with durable.temp_file(self.blobs_fd) as (temp, fd):
            copy_file(source, fd, share=not self.failed_flush.active)
            if self.hash_fd(fd) != digest_of(blob):
                if self.failed_flush.active:
                    why = "it reads other bytes than were written"
                    raise Damaged(f"the file for blob {text(blob)}", why)
                raise LostRace(f"the file for blob {text(blob)} was changed while it was copied")
            if self._compare(blob, fd) is None:
                raise LostRace(f"blob {text(blob)} was stored with other bytes meanwhile")
            move_in(self.blobs_fd, temp, blob_path(blob))

    def _unmark(self, blob: BlobId) -> None:
        if blob in self.damaged_blobs:
            self.damaged_blobs.remove(blob)


@contextlib.contextmanager
def _source(dir_fd: int, name: bytes, fd: int | None) -> Iterator[int]:
    if fd is not None:
        yield fd
    else:
        with durable.closing(regular_files.open_regular(dir_fd, name)) as opened:
            yield opened
