"""What of the daemon one user may take: descriptors, and requests that wait for what others do.

The process behind a mount serves everybody, so nobody's appetite may leave it, or another user, with nothing.
Whoever asks for too much is refused by an errno that says so. Root has no share, and the last of what there
is. Event loop's thread only, but for :meth:`OpenFiles.check_for_tree`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections import Counter
from collections.abc import Iterator

import trio

from artfs.vfs.node import Caller

#: Descriptors that are kept for the daemon's own work, whatever users have open.
RESERVE = 1024
#: More are not taken, also where the system would give them: a share of all would be no bound.
MOST_DESCRIPTORS = 1 << 20
_UNPROBED = 64


def raise_descriptor_limit() -> None:
    """Lets this process have as many descriptors as it may, and no more than there can be use for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MOST_DESCRIPTORS and hard != resource.RLIM_INFINITY:
        with contextlib.suppress(ValueError, OSError):  # only root may raise what others may raise it to
            resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_DESCRIPTORS, MOST_DESCRIPTORS))
            return
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_DESCRIPTORS, hard))


class OpenFiles:
    """Who opened which handle, and whether one more can be had."""

    def __init__(self, probe: int) -> None:
        """``probe`` is a descriptor that stays open."""
        self._probe = probe
        self._unprobed = 0  # opens that need not ask how many descriptors are taken
        self._share = 0  # of one user, when that was asked last
        self._openers: dict[int, Caller] = {}
        self._held: Counter[int] = Counter()

    def check(self, uid: int) -> None:
        """Raises ENFILE if all descriptors are taken, and EMFILE if this user has his share of them."""
        if self._unprobed and self._held[uid] < self._share:
            self._unprobed -= 1
            return
        ceiling = self._ceiling()
        self._share = ceiling * 5 // 8
        if uid and self._held[uid] >= self._share:
            raise OSError(errno.EMFILE, "this user has too many files open on the mount")
        lowest = self._check_below(ceiling if uid else ceiling + min(RESERVE, ceiling // 3) // 2)
        # Far from the ceiling so few opens, which take two at the most, bring nobody near it.
        self._unprobed = min(_UNPROBED, ceiling // 32) if lowest < ceiling // 2 else 0

    def check_for_tree(self, owner: int, held: int) -> None:
        """Raises ENFILE if too few are left for another pending version, which holds two while it is known.

        Raises EMFILE if `held` of them are the owner's share. With his open files it leaves something of what
        there is for trees. The daemon's own user is as root: where it is not root, all are his.
        """
        ceiling = self._ceiling()
        if owner not in (0, os.geteuid()) and held >= ceiling * 3 // 32:
            raise OSError(errno.EMFILE, "this user has too many pending versions")
        self._check_below(ceiling * 7 // 8)

    @staticmethod
    def _ceiling() -> int:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # prlimit(1) may have moved it
        return limit - min(RESERVE, limit // 4)

    def _check_below(self, ceiling: int) -> int:
        # The kernel gives the lowest number that is free: so it tells how many are taken, by whomever.
        try:
            lowest = os.dup(self._probe)
        except OSError:  # not even the reserve is left
            lowest = ceiling
        else:
            os.close(lowest)
        if lowest >= ceiling:
            raise OSError(errno.ENFILE, "too many files are open on the mount")
        return lowest

    def opened(self, fh: int, caller: Caller) -> None:
        self._openers[fh] = caller
        self._held[caller.uid] += 1

    def opener(self, fh: int) -> Caller:
        return self._openers[fh]

    def closed(self, fh: int) -> None:
        uid = self._openers.pop(fh).uid
        self._held[uid] -= 1
        if not self._held[uid]:
            del self._held[uid]


class Waiting:
    """Requests that wait for their turn or for what others do, each with a task, and some with a thread."""

    def __init__(self, most: int, share: int, threads: int, *, of_root: int | None = None) -> None:
        """``most`` of all together, ``share`` of one user, of which ``threads`` have a thread at a time.

        Of root `of_root` have, if it is given.
        """
        self._most, self._share, self._threads = most, share, threads
        self._threads_of_root = threads if of_root is None else of_root
        self._all = 0
        self._of: Counter[int] = Counter()
        self._limiters: dict[int, trio.CapacityLimiter] = {}

    @contextlib.contextmanager
    def one(self, uid: int) -> Iterator[trio.CapacityLimiter]:
        """Counts one that waits, and yields the limiter of its user's threads.

        Raises EAGAIN if there are too many: then nothing could be answered any more, or nobody else.
        """
        if self._all >= self._most or (uid and self._of[uid] >= self._share):
            raise OSError(errno.EAGAIN, "too many requests are waiting already")
        self._all += 1
        self._of[uid] += 1
        if uid not in self._limiters:
            self._limiters[uid] = trio.CapacityLimiter(self._threads if uid else self._threads_of_root)
        try:
            yield self._limiters[uid]
        finally:
            self._all -= 1
            self._of[uid] -= 1
            if not self._of[uid]:
                del self._of[uid]
                # Threads that nobody waits for any more still count.
                if not self._limiters[uid].borrowed_tokens:
                    del self._limiters[uid]
