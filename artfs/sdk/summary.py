"""What a run came to: single values by name, kept in the run's record.

Owns when they are stored: not at each change, since programs change them at each step of a training. Any
thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from artfs.sdk.items import Items
from artfs.sdk.plain import friendly, storable

PAUSE = 10.0
"""Seconds between two stores by ``update()`` at least."""

MOST_LOGGED = 1000
"""Names that ``run.log()`` may bring; a summary holds more if they are set by name."""

LONGEST_LOGGED = 1000
"""Characters of a text that ``run.log()`` may bring."""


class Summary(Items):
    """The summary of a run: ``run.summary`` or ``artfs.summary``, by items and by attributes.

    It holds the last number or short text that ``run.log()`` was given for each name, and what is set here.
    It is stored when the run ends, and by :meth:`update`, though not more often than every ten seconds.

    Example:
        >>> run.summary["best_accuracy"] = 0.91
        >>> run.summary.best_accuracy
        0.91
    """

    _store: Callable[[dict[str, Any]], None]
    _changed: set[str]
    _stored_at: float

    def __init__(self, begun: Mapping[str, Any], store: Callable[[dict[str, Any]], None]) -> None:
        object.__setattr__(self, "_items", {**begun})
        object.__setattr__(self, "_store", store)
        object.__setattr__(self, "_changed", set())
        object.__setattr__(self, "_stored_at", float("-inf"))

    def __getitem__(self, key: str) -> Any:
        value = self._items[key]
        if isinstance(value, dict | list):
            self._changed.add(key)  # who is given it may change it
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._items[str(key)] = friendly(value)
        self._changed.add(str(key))

    def __delitem__(self, key: str) -> None:
        del self._items[key]
        self._changed.add(key)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or key not in self._items:
            raise AttributeError(f"the summary has no {key!r}")
        return self[key]

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        if key not in self._items:
            raise AttributeError(f"the summary has no {key!r}")
        del self[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Returns a value, `default` if there is none.

        Example:
            >>> run.summary.get("loss") is None
            True
        """
        return self[key] if key in self._items else default

    def update(self, d: Mapping[str, Any] | None = None) -> None:
        """Sets some values, and stores all that changed if the last time is ten seconds ago.

        Raises ValueError if the record would be larger than 1 MiB.

        Example:
            >>> run.summary.update({"accuracy": 0.91, "loss": 0.2})
        """
        for key, value in {**(d or {})}.items():
            self[key] = value
        if time.monotonic() - self._stored_at >= PAUSE:
            self.flush()

    def flush(self) -> None:
        """Stores what changed, durably. A value that is None is not stored.

        Example:
            >>> run.summary.flush()
        """
        if self._changed:
            changed = {key: self._items.get(key) for key in sorted(self._changed)}
            self._store(storable(changed))
            self._changed.difference_update(changed)
            object.__setattr__(self, "_stored_at", time.monotonic())

    def logged(self, data: Mapping[str, Any]) -> None:
        """Takes over the numbers and short texts of one call of ``run.log``; media are passed by.

        Example:
            >>> run.summary.logged({"loss": 0.2})
        """
        for key, value in data.items():
            plain = friendly(value) if _is_scalar(value) else None
            fits = len(plain) <= LONGEST_LOGGED if isinstance(plain, str) else plain is not None
            if fits and (str(key) in self._items or len(self._items) < MOST_LOGGED):
                self[str(key)] = plain


def _is_scalar(value: Any) -> bool:
    """Tells whether a value is a number or text, also one of numpy's or a tensor of a single number."""
    if isinstance(value, int | float | str):
        return True
    return getattr(value, "shape", None) == () and callable(getattr(value, "tolist", None))
