"""What ``init(config=...)`` takes: a dictionary, parsed arguments, absl's flags, a file of YAML or JSON.

Owns how each becomes a dictionary. Any thread.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any

from artfs.errors import UsageError

DEFAULTS = "config-defaults.yaml"
"""The file in the working directory whose values a config begins with, as wandb has it."""


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
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, str | os.PathLike):
        return read(given)
    for name in ("as_dict", "flag_values_dict"):  # of a run's config, and of absl's flags
        convert = getattr(given, name, None)
        if callable(convert):
            return dict(convert())
    if not hasattr(given, "__dict__") or isinstance(given, type):
        raise TypeError(f"config must be a dictionary, arguments or a path, not {type(given).__name__}")
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
        raise UsageError(f"config={shown!r} must hold a dictionary")
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
        raise UsageError(f"config={shown!r} is not JSON, and YAML needs PyYAML: pip install pyyaml") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(
            f"config={shown!r} is neither JSON nor YAML: {' '.join(str(error).split())}"
        ) from None
