"""artfs has the names of the installed wandb; the manual lists those that are absent, with the reason."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache
from typing import Any

import pytest

from tests.mount.mounting import REPOSITORY

MANUAL = REPOSITORY / "artfs" / "docs" / "wandb.md"

pytest.importorskip("wandb", reason="wandb is in the dev extra")

#: What every class of pydantic has; it says nothing of wandb.
PYDANTIC = {"construct", "copy", "dict", "from_orm", "json", "parse_file", "parse_obj", "parse_raw"} | {
    *("schema", "schema_json", "update_forward_refs", "validate")
}


#: Classes whose objects are answers; nobody makes one.
ANSWERS = {"Run"}


@cache
def sections() -> dict[tuple[str, str], dict[str, str]]:
    """Returns, by the paths of both, the names that the manual says are absent, with the reason."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    rows: dict[str, str] = {}
    for line in MANUAL.read_text().splitlines():
        if heading := re.fullmatch(r"### `(wandb[\w.]*)`: `(artfs[\w.]*)`", line):
            rows = found[heading[1], heading[2]] = {}
        elif line.startswith(("| `", "| setting `")):
            names, why = line.strip("| ").split(" | ", 1)
            assert why.strip(), line
            for name in re.findall(r"(?:setting )?`\w+`", names):
                name = name.replace("`", "")
                assert name not in rows, f"{name} stands there twice"
                rows[name] = why
    return found


def thing(path: str) -> Any:
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"there is no {path}")


def names(of: Any) -> set[str]:
    if inspect.ismodule(of):
        return set(of.__all__) if hasattr(of, "__all__") else {name for name in vars(of) if name[0] != "_"}
    found = {name for name in dir(of) if not name.startswith(("_", "model_"))}
    # Fields of models and dataclasses are no attributes of the class.
    for fields in ("model_fields", "__dataclass_fields__"):
        found |= {name for name in getattr(of, fields, ()) if not name.startswith("_")}
    return found - PYDANTIC if hasattr(of, "model_fields") else found


PAIRS = list(sections()) if MANUAL.exists() else []


def of_path(pair: tuple[str, str]) -> str:
    return pair[0]


@pytest.mark.parametrize("pair", PAIRS, ids=of_path)
def test_what_is_absent_is_in_the_manual(pair: tuple[str, str]) -> None:
    theirs, ours = map(thing, pair)
    absent = {name for name in sections()[pair] if not name.startswith("setting ")}
    assert names(theirs) - names(ours) == absent


def parameters(of: Any) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a call by name; none of an exception, which users do not raise."""
    if inspect.isclass(of) and issubclass(of, BaseException):
        return {}
    return {name: one for name, one in inspect.signature(of).parameters.items() if name != "self"}


def difference(theirs: Any, ours: Any) -> str | None:
    """Tells how a call of wandb's would fail here; ours may take more that has a default."""
    wanted, given = parameters(theirs), parameters(ours)
    by_place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    order = [name for name, one in wanted.items() if one.kind == by_place]
    has = [name for name, one in given.items() if one.kind == by_place]
    if has[: len(order)] != order:
        return f"takes {has}, not {order}"
    for name, one in wanted.items():
        if one.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        if name not in given:
            return f"does not take {name}"
        default = given[name].default
        if one.default is inspect.Parameter.empty or type(one.default) is object:  # a sentinel
            continue
        if default != one.default and not (callable(default) and callable(one.default)):
            return f"{name} is {default!r} by default, not {one.default!r}"
    if any(one.kind == inspect.Parameter.VAR_POSITIONAL for one in wanted.values()):
        return None
    needed = [name for name in given.keys() - wanted.keys() if given[name].default is inspect.Parameter.empty]
    return f"needs {needed}" if needed else None


@pytest.mark.parametrize("pair", PAIRS, ids=of_path)
def test_what_is_there_is_used_as_wandbs_is(pair: tuple[str, str]) -> None:
    theirs, ours = map(thing, pair)
    wrong: dict[str, str] = {}
    for name in sorted(names(theirs) & names(ours)):
        wanted = inspect.getattr_static(theirs, name, None)
        has = inspect.getattr_static(ours, name, None)
        if isinstance(wanted, property):
            if inspect.isroutine(has):
                wrong[name] = "is called, where wandb has a property"
            elif wanted.fset and not getattr(has, "fset", None) and f"setting {name}" not in sections()[pair]:
                wrong[name] = "can't be set"
        elif name in ANSWERS:
            continue
        elif callable(wanted) or isinstance(wanted, classmethod | staticmethod):
            if isinstance(has, property):
                wrong[name] = "is a property, where wandb has a call"
            elif found := difference(getattr(theirs, name), getattr(ours, name)):
                wrong[name] = found
    assert not wrong
