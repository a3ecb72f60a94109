"""Every limit of the manual: what one user may have, and what all users together."""

from __future__ import annotations

import errno

from artfs.limits.limit import ConcurrencyLimit, Limit

# -- descriptors of the daemon

#: Descriptors that are kept for the daemon's own work, whatever users have open.
RESERVED_DESCRIPTORS = 1024
#: Descriptors that a daemon takes at most, even if the system would give more: a share of all is no bound.
MOST_DESCRIPTORS = 1 << 20
#: Parts, as fractions of the descriptors for users, that one user may hold: by open files and directories,
OPEN_FILES = 5, 8
#: by pending versions,
PENDING_VERSIONS = 3, 16
#: and by files that were unlinked and are still held.
UNLINKED_FILES = 1, 8
#: Descriptors of each pending version, while the kernel knows it.
PENDING_VERSION = 2
#: The part that pending versions of all users together leave to open files.
LEFT_BY_PENDING_VERSIONS = 1, 8

# -- requests of the kernel, and their threads

#: Requests that the daemon works on, or that wait, at the same time. Each takes a task: if all waited,
#: nothing would be answered any more.
REQUESTS = 4096
_WAITING = REQUESTS // 2 - 512
_REFUSAL = "too many requests are waiting already"
#: Requests that wait for the effect of other commands: a finish for a run to leave, an open for a seal.
WAITING_FOR_OTHERS = Limit(_WAITING, _WAITING // 3, _REFUSAL, errno.EAGAIN)
#: Requests that wait for other machines. Apart from those above, so that a slow server delays no finish.
WAITING_FOR_MACHINES = Limit(_WAITING, _WAITING // 3, _REFUSAL, errno.EAGAIN)
#: Threads of either kind.
WAITING_THREADS = ConcurrencyLimit(128, 128)
#: Requests to control files, and changes of directories outside of trees, that have a thread or wait for it.
COMMANDS = Limit(768, 256, _REFUSAL, errno.EAGAIN)
#: Threads of these.
COMMAND_THREADS = ConcurrencyLimit(4, 32)
#: Those of them that go through a whole tree. They share one interpreter with the event loop.
COMPUTING_THREADS = ConcurrencyLimit(1, 2)
#: The same, of all users together.
COMPUTING_AT_ONCE = 2
#: Threads for the backing filesystem: reads, fsyncs, listings, copies. None of these is refused,
#: because they complete what a write(2) or a command has started.
DISK_THREADS = ConcurrencyLimit(16, 32)
#: Threads that verify files.
VERIFYING_THREADS = ConcurrencyLimit(2, 4)
#: Threads that hash local files for references.
HASHING_THREADS = ConcurrencyLimit(2, 2)
#: Threads that notify the kernel of changes, for each owner of pending versions.
NOTIFYING_THREADS = 32

# -- memory, and the volume's disk

#: Bytes of one command: less than what one request of FUSE has, wherever in a page that begins.
COMMAND_BYTES = 15 << 16
#: Bytes of documents that are written in part.
DOCUMENTS = Limit(256 << 20, 64 << 20, "too many documents are being written at the same time")
#: Bytes of control files as they were read; the volume's disk holds most of large ones.
SNAPSHOTS = Limit(4 << 30, 1 << 30, "too many large control files are being read at the same time")
#: Those of them in memory: short ones, and what the disk has no room for.
SNAPSHOTS_IN_MEMORY = Limit(
    256 << 20, 64 << 20, "too many control files are being read, and the disk has no room for them"
)
#: Bytes in memory of what was found at URIs, until there are references to it.
FOUND_OBJECTS = Limit(1 << 30, 1 << 29, "too many objects are being referred to at the same time")
#: Names in the listings of open directories.
LISTED_NAMES = Limit(20_000_000, 10_000_000, "too many large directories are being read at the same time")
