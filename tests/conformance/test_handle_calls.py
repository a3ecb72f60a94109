"""Every call on open files, opened in every way and then changed, compared with a real directory."""

from __future__ import annotations

import re
from functools import partial

import pytest

from tests.conformance.arenas import Arenas
from tests.conformance.comparing import USERS, Record, acting, outcome, turns
from tests.conformance.driver import OsFilesystem
from tests.conformance.handle_calls import (
    DIFFERENT,
    FATES,
    HANDLE_CALLS,
    WAYS,
    build_directories,
    build_files,
    place_of,
)

pytestmark = pytest.mark.fuse

CALLERS = ("root", "owner", "other")

_CASES = {f"{way}, {fate}": (way, fate) for fate in FATES for way in WAYS}
_SLOTS = {
    case: build_directories if way == "a directory" else build_files for case, (way, _) in _CASES.items()
}


@pytest.mark.parametrize(("make", "user", "case"), turns(_SLOTS, CALLERS, each=2))
def test_a_call_on_an_open_file_behaves_as_in_a_real_directory(
    arenas: Arenas, make: str, user: str, case: str
) -> None:
    slot = arenas.slot("handle calls", _SLOTS, make, case, user)
    way, fate = _CASES[case]

    def run(fs: OsFilesystem) -> Record:
        record = {}
        for call in HANDLE_CALLS:
            if any(re.fullmatch(pattern, f"{user}, {case}, {call}") for pattern in DIFFERENT):
                continue
            at = place_of(call)
            with fs.open(at + b"/it", WAYS[way]) as file:
                with acting(USERS["root"]):
                    FATES[fate](fs, at)
                record[call] = outcome(partial(HANDLE_CALLS[call], fs, file.fileno(), at))
        return record

    with arenas.mounted.watched():
        slot.compare(USERS[user], run)
