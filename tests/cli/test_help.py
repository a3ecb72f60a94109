"""help: the manual's topics, and the options of commands."""

from __future__ import annotations

import re

import pytest

from artfs.cli.main import cli as group
from artfs.version import __version__
from tests.cli.running import Cli
from tests.mount.mounting import REPOSITORY

PAGES = {path.stem.lower(): path for path in (REPOSITORY / "artfs" / "docs").glob("*.md")}


@pytest.fixture
def cli() -> Cli:
    """The command line without a volume, which help does not need."""
    return Cli(None, REPOSITORY, mounted=False)


def test_the_list_has_each_page(cli: Cli) -> None:
    assert [line.split("\t")[0] for line in cli("help").out.splitlines()] == sorted(PAGES)


@pytest.mark.parametrize("topic", sorted(PAGES))
def test_a_topic_prints_its_page(cli: Cli, topic: str) -> None:
    assert cli("help", topic).out.rstrip() == PAGES[topic].read_text().rstrip()


@pytest.mark.parametrize("command", sorted(group.commands))
def test_the_help_of_a_command_has_an_example(cli: Cli, command: str) -> None:
    assert cli("help", command).out == cli(command, "--help").out
    _, _, text = cli(command, "--help").out.partition("\n")
    assert re.search(rf"^ +.*artfs( --volume \S+)? {command}\b", text, re.MULTILINE), "help has no example"


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out == f"artfs, version {__version__}\n"


def test_an_unknown_topic_is_refused(cli: Cli) -> None:
    assert "no topic or command 'nothing'" in cli("help", "nothing", status=2).err
