"""The time as a volume's files have it.

Owns: the one form of a moment in them. Must not know which file it is for. Any thread.
"""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp() -> str:
    """Returns the present time as ISO 8601 in UTC with microseconds and a ``Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def nanoseconds(text: str) -> int:
    """Returns such a moment as nanoseconds since the epoch. Raises ValueError or OverflowError for none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return int(moment.timestamp() * 1_000_000) * 1000
