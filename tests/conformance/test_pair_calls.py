"""Every call on two paths, for every pair of kinds and every kind of user, compared with a real directory."""

from __future__ import annotations

from functools import partial

import pytest

from tests.conformance import pair_calls
from tests.conformance.arenas import Arenas
from tests.conformance.comparing import USERS, Record, outcome, turns
from tests.conformance.driver import OsFilesystem
from tests.conformance.pair_calls import PAIR_CALLS, PAIRS

pytestmark = pytest.mark.fuse

_SLOTS = dict.fromkeys(PAIR_CALLS, pair_calls.build)


@pytest.mark.parametrize(("make", "user", "call"), turns([*PAIR_CALLS] * 3))
def test_a_call_on_two_paths_behaves_as_in_a_real_directory(
    arenas: Arenas, make: str, user: str, call: str
) -> None:
    slot = arenas.slot("pair calls", _SLOTS, make, call, user)

    def run(fs: OsFilesystem) -> Record:
        record = {}
        for name, pair in PAIRS.items():
            old, new = (name.encode() + b"/" + path for path in pair.paths)
            record[name] = outcome(partial(PAIR_CALLS[call], fs, old, new))
        return record

    with arenas.mounted.watched():
        slot.compare(USERS[user], run)
