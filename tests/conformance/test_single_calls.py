"""Every call on one path, on every kind of operand, by every kind of user: as a real directory answers."""

from __future__ import annotations

from functools import partial

import pytest

from tests.conformance import operands
from tests.conformance.arenas import Arenas
from tests.conformance.comparing import USERS, Record, outcome, turns
from tests.conformance.driver import OsFilesystem
from tests.conformance.operands import OPERANDS, path_of
from tests.conformance.single_calls import SINGLE_CALLS, differs

pytestmark = pytest.mark.fuse

_SLOTS = dict.fromkeys(SINGLE_CALLS, operands.build)


@pytest.mark.parametrize(("make", "user", "call"), turns(SINGLE_CALLS))
def test_a_call_on_a_path(arenas: Arenas, make: str, user: str, call: str) -> None:
    slot = arenas.slot("single calls", _SLOTS, make, call, user)

    def run(fs: OsFilesystem) -> Record:
        return {
            name: outcome(partial(SINGLE_CALLS[call], fs, path_of(fs, name)))
            for name in OPERANDS
            if not differs(user, call, name)
        }

    with arenas.mounted.watched():
        slot.compare(USERS[user], run)
