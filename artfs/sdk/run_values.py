"""The config and the summary of a run, by items and by attributes.

Owns when they are stored: a change of the config at once, before it is seen; the summary not at each change,
since programs change it at each step of a training. The caller that makes one says where it is stored. Any
thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping
from typing import Any

from artfs.errors import UsageError
from artfs.sdk.artifact import Artifact
from artfs.sdk.config_sources import dictionary_of
from artfs.sdk.json_values import friendly, storable

PAUSE = 10.0
"""Seconds between two stores by ``Summary.update()`` at least."""

MOST_LOGGED = 1000
"""Names that ``run.log()`` may add; a summary holds more if they are set by name."""

LONGEST_LOGGED = 1000
"""Characters of a text that ``run.log()`` may set."""

Store = Callable[[dict[str, Any]], None]
"""Stores changed values in the run's record, or raises."""


class RunValues(ABC):
    """Values by name. A subclass says how one is set, and what reading one means."""

    _items: dict[str, Any]
    _store: Store

    def __init__(self, stored: Mapping[str, Any], store: Store, **more: Any) -> None:
        """Begins with what was stored already."""
        vars(self).update(more, _items={**stored}, _store=store)  # __setattr__ sets values

    def __repr__(self) -> str:
        return repr(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    @abstractmethod
    def __setitem__(self, key: str, value: Any) -> None: ...

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or key not in self._items:
            raise AttributeError(f"the {type(self).__name__.lower()} has no {key!r}")
        return self[key]

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def keys(self) -> KeysView[str]:
        """Returns the names.

        Example:
            >>> list(run.config.keys())
            ['lr']
        """
        return self._items.keys()

    def items(self) -> ItemsView[str, Any]:
        """Returns names and values.

        Example:
            >>> dict(run.config.items())
            {'lr': 0.1}
        """
        return self._items.items()

    def get(self, key: str, default: Any = None) -> Any:
        """Returns a value, `default` if there is none.

        Example:
            >>> run.config.get("epochs", 1)
            1
        """
        return self[key] if key in self._items else default


class Config(RunValues):
    """The config of a run: ``run.config`` or ``artfs.config``. It is kept in the run's record, durably.

    A value that is set can't be changed by accident: ``update(..., allow_val_change=True)`` does it. An
    artifact as a value is recorded as used by the run.

    Example:
        >>> run = artfs.init(config={"lr": 0.1})
        >>> run.config.epochs = 3
        >>> run.config["lr"], run.config.epochs
        (0.1, 3)
    """

    _use: Callable[[Artifact], None]
    _may_change: bool

    def __init__(
        self,
        stored: Mapping[str, Any],
        store: Store,
        use: Callable[[Artifact], None],
        *,
        may_change: bool = False,
    ) -> None:
        super().__init__(stored, store, _use=use, _may_change=may_change)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def as_dict(self) -> dict[str, Any]:
        """Returns a copy as a dictionary.

        Example:
            >>> run.config.as_dict()
            {'lr': 0.1}
        """
        return {**self._items}

    def update(self, d: Any, allow_val_change: bool | None = None) -> None:
        """Sets some values: all of them, or none if it raises.

        `d` is whatever ``init(config=...)`` takes. Raises UsageError for a value that is set to another one
        already, unless `allow_val_change`; ValueError if the record would be larger than 1 MiB.

        Example:
            >>> run.config.update({"lr": 0.01}, allow_val_change=True)
        """
        changes: dict[str, Any] = {}
        for key, value in dictionary_of(d).items():
            key = str(key).strip("-")
            changes[key] = value if isinstance(value, Artifact) else friendly(value)
        may = self._may_change if allow_val_change is None else allow_val_change
        for key, value in changes.items():
            if not may and key in self._items and self._items[key] != value:
                raise UsageError(
                    f"config[{key!r}] is {self._items[key]!r} already: config.update({{{key!r}: ...}},"
                    " allow_val_change=True) changes it"
                )
        for value in changes.values():
            if isinstance(value, Artifact):
                self._use(value)
        self._store(
            {
                key: value.qualified_name if isinstance(value, Artifact) else storable(value)
                for key, value in changes.items()
            }
        )
        self._items.update(changes)

    def setdefaults(self, d: Any) -> None:
        """Sets those values that are not set.

        Example:
            >>> run.config.setdefaults({"epochs": 1})
        """
        self.update({key: value for key, value in dictionary_of(d).items() if key not in self._items})

    def persist(self) -> None:
        """Does nothing: each change is stored as it is made.

        Example:
            >>> run.config.persist()
        """


class Summary(RunValues):
    """The summary of a run: ``run.summary`` or ``artfs.summary``, by items and by attributes.

    It holds the last number or short text that ``run.log()`` was given for each name, and what is set here.
    It is stored when the run ends, and by :meth:`update`, though not more often than every ten seconds.

    Example:
        >>> run.summary["best_accuracy"] = 0.91
        >>> run.summary.best_accuracy
        0.91
    """

    _changed: set[str]
    _stored_at: float

    def __init__(self, stored: Mapping[str, Any], store: Store) -> None:
        super().__init__(stored, store, _changed=set(), _stored_at=float("-inf"))

    def __getitem__(self, key: str) -> Any:
        value = self._items[key]
        if isinstance(value, dict | list):
            self._changed.add(key)  # the caller may change it
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._items[str(key)] = friendly(value)
        self._changed.add(str(key))

    def __delitem__(self, key: str) -> None:
        del self._items[key]
        self._changed.add(key)

    def __delattr__(self, key: str) -> None:
        getattr(self, key)
        del self[key]

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
            vars(self)["_stored_at"] = time.monotonic()

    def logged(self, data: Mapping[str, Any]) -> None:
        """Sets the numbers and short texts of one call of ``run.log``, and leaves out media.

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
