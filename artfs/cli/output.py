"""What commands print: tables and progress for people, plain lines for programs, JSON for both.

On a terminal tables have headings and are aligned; in a pipe each row is a line with tabs between the cells
and no heading. Names are printed with control characters and undecodable bytes escaped; JSON has them exactly
(undecodable bytes as lone surrogates).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from artfs.printing import printable

if TYPE_CHECKING:
    from artfs.client.values import Progress

T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_IN_BYTES = ("copy", "blobs")  # the phases whose progress counts bytes


def on_terminal() -> bool:
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2 if on_terminal() else None))


def print_result(value: T, as_json: bool, plain: Callable[[T], None]) -> None:
    """Prints a result as JSON, or as `plain` does."""
    if as_json:
        print_json(value)
    else:
        plain(value)


def print_line(text: str) -> None:
    click.echo(printable(text))


def print_note(text: str) -> None:
    """Prints what people may want to know and programs need not parse, on stderr."""
    click.echo(f"artfs: {printable(text)}", err=True)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Prints rows; the columns named in `right` are aligned to the right."""
    cells = [list(map(_cell, row)) for row in rows]
    if not on_terminal():
        for row in cells:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return "" if value is None else printable(str(value))


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Prints keys and values, a pair per line."""
    if not on_terminal():
        print_table(("", ""), facts)
        return
    width = max(len(key) for key, _ in facts)
    for key, value in facts:
        click.echo(f"{click.style(key.ljust(width), bold=True)}  {_cell(value)}")


def size(count: int) -> str:
    """Shows a number of bytes: with a decimal unit on a terminal, as it is in a pipe."""
    if not on_terminal():
        return str(count)
    from rich import filesize

    return filesize.decimal(count)


def moment(timestamp: str) -> str:
    """Shows a time of a ``status``: to the second in local time on a terminal, as it is in a pipe."""
    if not on_terminal():
        return timestamp
    from datetime import datetime

    return datetime.fromisoformat(timestamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@contextlib.contextmanager
def progress(labels: dict[str, str]) -> Iterator[Progress]:
    """Yields a callback that draws a bar for each phase on stderr, if that is a terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _phase, _done, _total: None
        return
    from rich import filesize
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = "{task.description}", BarColumn(), TextColumn("{task.fields[amount]}"), TimeRemainingColumn()
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        shown = 0.0

        def show(phase: str, done: int, total: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if phase not in tasks:
                tasks[phase] = bars.add_task(labels.get(phase, phase), total=total or None, amount="")
            elif now - shown < 0.1 and done != total:
                return
            shown = now
            amounts = [done, total] if total else [done]
            amount = " / ".join(map(filesize.decimal if phase in _IN_BYTES else str, amounts))
            bars.update(tasks[phase], completed=done, total=total or None, amount=amount)

        yield show
