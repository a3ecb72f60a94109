"""Every durable step in the code is one that the crash tests come by: a new one without a test fails here.

The steps are read from the code; which of them are tried is told by the scenarios, each acted once.
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

#: The steps that each function of ``store/durable.py`` announces behind its label.
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

#: What a label is that is no text in the code: by the module, and how the code spells it.
SPELLED = {
    ("catalog/collection.py", "name.decode()"): ("type", "description", "ttl", "scope", "tags"),
    ("pending/overlay.py", "f'overlay:{step}'"): tuple(
        f"overlay:{step}" for step in ("copy-up", "lift", "reference", "stub", "symlink")
    ),
}


def announced() -> Iterator[tuple[str, str]]:
    """Yields each step of the code, and where it is."""
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
    """All that is crashed and made to fail at each of its steps."""
    found: dict[str, Scenario] = {}
    for operations in (maintenance.OPERATIONS, patches.BASES, patches.FINISHES, test_beginnings.CHANGES):
        found |= {f"{name}, {len(found)}": scenario for name, scenario in operations.items()}
    found |= {name: story.scenario for name, story in patches.STORIES.items()}
    return found | {
        "write to what may be a blob": test_patch_others.SHARED,
        "change a reference": test_patch_references.CHANGED,
    }


def test_each_step_is_come_by(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert steps_alone - known.keys() <= {f"{label}:{step}" for label in BOTH for step in EITHER}


#: What :func:`durable.replace_if_unchanged` does besides, by what it is given.
EITHER = ("write", "fsync", "rename", "unlink")
BOTH = (
    *("alias", "finished-id", "notes", "run", "serial", "type", "description", "ttl", "scope", "tags"),
    "tombstone",
)
