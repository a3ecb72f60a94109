"""Every call on one path, for every operand and every kind of user, compared with a real directory."""

from __future__ import annotations

from functools import partial

import pytest

from tests.conformance import operands
from tests.conformance.arenas import Arenas
from tests.conformance.comparing import USERS, Record, outcome, twice
from tests.conformance.driver import OsFilesystem
from tests.conformance.operands import OPERANDS, path_of
from tests.conformance.single_calls import LOOKING, SINGLE_CALLS, differs

pytestmark = pytest.mark.fuse

_LOOKING = "calls that only look"
_CASES = {_LOOKING: LOOKING, **{call: [call] for call in SINGLE_CALLS if call not in LOOKING}}
_SLOTS = dict.fromkeys(_CASES, operands.build)


@pytest.mark.parametrize(("make", "user", "case"), twice([*[_LOOKING] * 3, *_CASES]))
def test_a_call_on_a_path_behaves_as_in_a_real_directory(
    arenas: Arenas, make: str, user: str, case: str
) -> None:
    slot = arenas.slot("single calls", _SLOTS, make, case, user)

    def run(fs: OsFilesystem) -> Record:
        return {
            f"{call}, {name}": outcome(partial(SINGLE_CALLS[call], fs, path_of(fs, name)))
            for call in _CASES[case]
            for name in OPERANDS
            if not differs(user, call, name)
        }

    with arenas.mounted.watched():
        slot.compare(USERS[user], run)
