"""Counts the entries of the tables of calls: ``python -m tests.conformance.counts``."""

from __future__ import annotations

from tests.conformance.comparing import MAKES, USERS
from tests.conformance.handle_calls import FATES, HANDLE_CALLS, WAYS
from tests.conformance.operands import OPERANDS
from tests.conformance.pair_calls import PAIR_CALLS, PAIRS
from tests.conformance.single_calls import SINGLE_CALLS, name_of
from tests.conformance.test_handle_calls import CALLERS


def main() -> None:
    """Prints a line for each table: calls, operands, and users."""
    tables = (
        ("on one path", SINGLE_CALLS, len(OPERANDS), len(USERS)),
        ("on two paths", PAIR_CALLS, len(PAIRS), len(USERS)),
        ("on open files", HANDLE_CALLS, len(WAYS) * len(FATES), len(CALLERS)),
    )
    total = 0
    names: set[str] = set()
    for title, calls, operands, users in tables:
        cases = len(calls) * operands
        total += cases * users * len(MAKES)
        names |= set(map(name_of, calls))
        print(
            f"{title}: {len(calls)} calls x {operands} = {cases} cases, x {users} users x {len(MAKES)} makes"
        )
    print(f"{len(names)} system calls and functions, {total} comparisons")
    print(*sorted(names))


if __name__ == "__main__":
    main()
