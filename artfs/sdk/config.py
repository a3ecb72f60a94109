"""What a run was given: its config, by items and by attributes.

Owns how a dictionary comes of what users have: a dictionary, parsed arguments, absl's flags, a file of YAML
or JSON. Whoever makes a config says where it is stored; each change is stored before it is seen. Any thread.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from artfs.errors import UsageError
from artfs.sdk.artifact import Artifact
from artfs.sdk.items import Items
from artfs.sdk.plain import friendly, storable

DEFAULTS = "config-defaults.yaml"
"""The file whose values a config begins with, as wandb has it, where it is in the working directory."""


class Config(Items):
    """The config of a run: ``run.config`` or ``artfs.config``. It is kept in the run's record, durably.

    A value that is set can't be changed by accident: ``update(..., allow_val_change=True)`` does it. An
    artifact as a value is noted as used by the run.

    Example:
        >>> run = artfs.init(config={"lr": 0.1})
        >>> run.config.epochs = 3
        >>> run.config["lr"], run.config.epochs
        (0.1, 3)
    """

    _store: Callable[[dict[str, Any]], None]
    _use: Callable[[Artifact], None]
    _may_change: bool

    def __init__(
        self,
        begun: Mapping[str, Any],
        *,
        store: Callable[[dict[str, Any]], None],
        use: Callable[[Artifact], None],
        may_change: bool = False,
    ) -> None:
        """Begins with what was stored already. `store` is given each change, or raises."""
        for name, value in (("_items", {**begun}), ("_store", store), ("_use", use)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_may_change", may_change)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or key not in self._items:
            raise AttributeError(f"the config has no {key!r}")
        return self._items[key]

    def __setattr__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def get(self, key: str, default: Any = None) -> Any:
        """Returns a value, `default` if there is none.

        Example:
            >>> run.config.get("epochs", 1)
            1
        """
        return self._items.get(key, default)

    def as_dict(self) -> dict[str, Any]:
        """Returns a dictionary of its own.

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
        self._store({key: _stored(value) for key, value in changes.items()})
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


def _stored(value: Any) -> Any:
    return value.qualified_name if isinstance(value, Artifact) else storable(value)


def dictionary_of(
    given: Any, *, exclude: Collection[str] | None = None, include: Collection[str] | None = None
) -> dict[str, Any]:
    """Returns what a user calls a config as a dictionary.

    Raises UsageError for a file that holds none, and for both `exclude` and `include`; TypeError for what is
    nothing of the kind.
    """
    if exclude and include:
        raise UsageError("config_exclude_keys and config_include_keys: one of them, not both")
    found = _dictionary(given)
    return {
        key: value
        for key, value in found.items()
        if (not include or key in include) and key not in (exclude or ())
    }


def _dictionary(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping | Config):
        return dict(given)
    if isinstance(given, str | os.PathLike):
        return read(given)
    flags = getattr(given, "flag_values_dict", None)  # absl's
    if callable(flags):
        return dict(flags())
    if not hasattr(given, "__dict__") or isinstance(given, type):
        raise TypeError(f"config is a dictionary, parsed arguments or a path, not {type(given).__name__}")
    return dict(vars(given))


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a config's file: JSON, or YAML where PyYAML is installed. Raises UsageError.

    Values may be written as wandb does, ``lr: {value: 0.1}``, or plainly.
    """
    shown = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config={shown!r} can't be read: {error}") from None
    found = _parsed(text, shown)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"config={shown!r} holds no dictionary")
    found.pop("wandb_version", None)
    return {
        str(key): value["value"] if isinstance(value, dict) and value.keys() <= {"value", "desc"} else value
        for key, value in found.items()
    }


def _parsed(text: str, shown: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise UsageError(f"config={shown!r} is no JSON, and YAML needs PyYAML: pip install pyyaml") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(
            f"config={shown!r} is neither JSON nor YAML: {' '.join(str(error).split())}"
        ) from None
