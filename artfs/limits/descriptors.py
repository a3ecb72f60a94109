"""The descriptors of a daemon, which serves everybody: what a user takes leaves some to others and to itself.

The part of each user is one of what there is now, since prlimit(1) may change that. Any thread, except for
:class:`OpenFiles`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource

from artfs.limits import numbers
from artfs.limits.limit import Limit
from artfs.limits.numbers import MOST_DESCRIPTORS, RESERVED_DESCRIPTORS

_UNPROBED = 64  # opens, at most, between two probes


def raise_limit() -> None:
    """Lets this process have as many descriptors as it may, and no more than there can be use for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MOST_DESCRIPTORS and hard != resource.RLIM_INFINITY:
        with contextlib.suppress(ValueError, OSError):  # only root may raise the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_DESCRIPTORS, MOST_DESCRIPTORS))
            return
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_DESCRIPTORS, hard))


def for_users() -> int:
    """Returns how many descriptors users may take together."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit - _reserve(limit)


def _reserve(limit: int) -> int:
    return min(RESERVED_DESCRIPTORS, limit // 4)


def check_free(probe: int, bound: int) -> int:
    """Returns how many descriptors are taken. Raises OSError (ENFILE) if that is the bound.

    ``probe`` is an open descriptor. The kernel gives the lowest number that is free.
    """
    try:
        lowest = os.dup(probe)
    except OSError:  # not even the reserve is left
        lowest = bound
    else:
        os.close(lowest)
    if lowest >= bound:
        raise OSError(errno.ENFILE, "too many files are open on the mount")
    return lowest


class DescriptorLimit(Limit):
    """Descriptors by what users own. It binds neither root nor the user of the daemon."""

    def __init__(self, part: tuple[int, int], refusal: str, number: int) -> None:
        super().__init__(MOST_DESCRIPTORS, 0, refusal, number)
        self._part = part

    def share(self) -> int:
        return for_users() * self._part[0] // self._part[1]

    def binds(self, uid: int) -> bool:
        return uid not in (0, os.geteuid())


UNLINKED = DescriptorLimit(numbers.UNLINKED_FILES, "this user holds too many unlinked files", errno.ESTALE)
_PENDING = DescriptorLimit(numbers.PENDING_VERSIONS, "this user has too many pending versions", errno.EMFILE)


def check_for_pending_version(probe: int, owner: int, held: int) -> None:
    """Checks that another pending version may be opened, of an owner who has `held` already.

    Raises OSError: ENFILE if too few descriptors are left, EMFILE if the owner has a share of them.
    """
    _PENDING.check(owner, numbers.PENDING_VERSION * held)
    part, whole = numbers.LEFT_BY_PENDING_VERSIONS
    check_free(probe, for_users() * (whole - part) // whole)


class OpenFiles(DescriptorLimit):
    """Open files and directories by who opened them. Event loop's thread only."""

    def __init__(self, probe: int) -> None:
        """``probe`` is a descriptor that stays open."""
        super().__init__(numbers.OPEN_FILES, "this user has too many files open on the mount", errno.EMFILE)
        self._probe = probe
        self._unprobed = 0  # opens before the next probe
        self._last_share = 0

    def binds(self, uid: int) -> bool:
        return uid != 0

    def check_open(self, uid: int) -> None:
        """Raises OSError: ENFILE if all descriptors are taken, EMFILE if the user has a share of them.

        The last of the reserve is root's.
        """
        held = self._held[uid]
        if self._unprobed and held < self._last_share:
            self._unprobed -= 1
            return
        self._last_share = self.share()
        self.check(uid, held)
        bound = users = for_users()
        if not uid:
            bound += _reserve(resource.getrlimit(resource.RLIMIT_NOFILE)[0]) // 2
        taken = check_free(self._probe, bound)
        # Far from the bound so few opens, each of two descriptors at most, don't reach it.
        self._unprobed = min(_UNPROBED, users // 32) if taken < users // 2 else 0

    def opened(self, uid: int) -> None:
        """Counts an open that :meth:`check_open` has admitted, until :meth:`closed`."""
        self._held[uid] += 1

    def closed(self, uid: int) -> None:
        held = self._held[uid] = self._held[uid] - 1
        if not held:
            del self._held[uid]
