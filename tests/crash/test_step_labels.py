"""Every durable step of the code is reached by a crash test: a new step without a test fails here.

The steps are read from the code; the scenarios, each run once, show which of them are tested.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import artfs
from artfs.linux import syscalls
from artfs.volume.volume import Volume
from tests.crash import maintenance, patches, test_beginnings, test_patch_others, test_patch_references
from tests.crash.faults import calls, steps
from tests.crash.harness import Scenario, prepared
from tests.crash.test_interrupted_upgrade import open_and_close
from tests.formats import format_1

pytestmark = pytest.mark.usefixtures("no_syncs")

PACKAGE = Path(artfs.__file__).parent

#: The steps that each function of ``store/durable.py`` appends to its label.
STEPS = {
    "create": ("write", "fsync", "rename", "sync-dir"),
    "replace": ("write", "fsync", "rename", "sync-dir"),
    "replace_if_unchanged": ("lock", "sync-dir"),
    "remove": ("unlink", "sync-dir"),
    "move": ("rename", "sync-dir"),
    "exchange": ("rename", "sync-dir"),
    "sync_file": ("fsync",),
    "sync_dir": ("sync-dir",),
    "confirm": ("sync-dir",),
    "update": ("lock", "sync-dir"),  # of catalog/small_files.py
}

#: The labels that are computed: by module and expression.
SPELLED = {
    ("catalog/collection.py", "name.decode()"): ("type", "description", "ttl", "scope", "tags"),
    ("pending/overlay.py", "f'overlay:{step}'"): tuple(
        f"overlay:{step}" for step in ("copy-up", "lift", "reference", "stub", "symlink")
    ),
}


def announced() -> Iterator[tuple[str, str]]:
    """Yields each step in the code, and its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if module in ("store/durable.py", "catalog/small_files.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if ast.unparse(node.func.value) not in ("durable", "small_files"):
                continue
            where = f"{module}:{node.lineno}"
            if node.func.attr == "step":
                for label in labels_of(module, node.args[0]):
                    yield label, where
            for keyword in node.keywords:
                if keyword.arg == "label":
                    for label in labels_of(module, keyword.value):
                        for step in STEPS[node.func.attr]:
                            yield f"{label}:{step}", where


def labels_of(module: str, spelled: ast.expr) -> tuple[str, ...]:
    if isinstance(spelled, ast.Constant):
        return (str(spelled.value),)
    return SPELLED[module, ast.unparse(spelled)]


def scenarios() -> dict[str, Scenario]:
    """Returns all scenarios that crash and fail at each of their steps."""
    found: dict[str, Scenario] = {}
    for operations in (maintenance.OPERATIONS, patches.BASES, patches.FINISHES, test_beginnings.CHANGES):
        found |= {f"{name}, {len(found)}": scenario for name, scenario in operations.items()}
    found |= {name: story.scenario for name, story in patches.STORIES.items()}
    return found | {
        "write to what may be a blob": test_patch_others.SHARED,
        "change a reference": test_patch_references.CHANGED,
    }


def test_each_durable_step_is_tested(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "LOCAL_FILESYSTEMS", ())  # as where syncfs(2) may not write everything
    reached: set[str] = set()
    tell: Callable[[str], None] = reached.add
    with steps(tell):
        Volume.init(place / "made").close()
        open_and_close(format_1(place / "of format 1"))
    for number, scenario in enumerate(scenarios().values()):
        with prepared(place / f"volume-{number}", scenario) as case, calls(tell):
            scenario.act(case)
    known = dict(announced())
    assert len(known) > 80
    missing = {label: where for label, where in known.items() if label not in reached}
    assert missing == {}
    steps_alone = {label for label in reached if not label.startswith("call:")}
    assert steps_alone - known.keys() <= {f"{label}:{step}" for label in REPLACED for step in FURTHER}


#: The further steps of :func:`durable.replace_if_unchanged`, and the labels that it is called with.
FURTHER = ("write", "fsync", "rename", "unlink")
REPLACED = (
    *("alias", "finished-id", "notes", "run", "serial", "type", "description", "ttl", "scope", "tags"),
    "tombstone",
)
