"""Modified volumes without a mount: each command names the damage or returns what was sealed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.cli.running import Cli
from tests.crafted.crafts import Craft, parameters
from tests.crafted.volumes import BAD, GOOD, SECRET, Crafted

READING = [
    ["ls"],
    ["ls", "bad"],
    ["ls", "bad:v0"],
    ["ls", "bad:v2"],
    ["log", "bad"],
    ["show", "bad:v0"],
    ["cat", "bad:v0", "file"],
    ["pending"],
    ["status"],
    ["diff", "bad/patch"],
]


def ran(cli: Cli, *words: str | Path) -> str | None:
    """Runs a command that may fail with one line; returns its output, or None. No traceback, no secret."""
    result = cli(*words, status=None)
    assert SECRET.decode() not in result.out + result.err
    if result.status == 0:
        return result.out
    assert result.status == 1
    assert result.reason  # "artfs: " and one line
    return None


@pytest.mark.parametrize("craft", parameters())
def test_commands_on_a_crafted_volume_end_cleanly(craft: Craft, crafted: Crafted, tmp_path: Path) -> None:
    craft.do(crafted)
    there = crafted.object_files()
    cli = Cli(crafted.path, crafted.path, mounted=False)
    for words in READING:
        ran(cli, *words)
    for number in (0, 2):
        got = tmp_path / "got" / f"v{number}"
        got.parent.mkdir(exist_ok=True)
        if ran(cli, "get", f"bad:v{number}", got) is not None and number == 0:
            for path, data in BAD.items():
                found = got / os.fsdecode(path)
                assert not found.exists() or found.read_bytes() == data
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) in ([], ["v0"], ["v2"], ["v0", "v2"])

    report = json.loads(cli("check", "--json", status=0 if craft.check is None else 1).out)
    named = "\n".join(
        f"{finding['kind']} {finding['id']}: {finding['why']}" for finding in report["findings"]
    )
    assert bool(named) == (craft.check is not None)
    assert craft.check is None or re.search(craft.check, named)

    collected = ran(cli, "gc")
    assert craft.gc in (None, collected is not None)
    assert there <= crafted.object_files()

    for path, data in GOOD.items():
        assert cli("cat", "good:v0", os.fsdecode(path)).raw == data
    for words in (["finish", "bad/next"], ["finish", "bad/patch"], ["discard", "bad/next"], ["rm", "bad:v0"]):
        ran(cli, *words)
    assert (ran(cli, "finish", "good/next") is not None) == craft.finish
    assert (crafted.outside / "secret").read_bytes() == SECRET
    assert not os.path.lexists(crafted.outside / "nowhere")
    assert not os.path.lexists(crafted.outside / "planted")
