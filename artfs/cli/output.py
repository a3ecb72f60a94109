"""What commands print: tables and progress for people, plain lines for programs, JSON for both.

On a terminal tables have headings and are aligned; in a pipe each row is a line with tabs between the cells
and no heading. Names are printed with control characters and undecodable bytes escaped; JSON has them exactly
(undecodable bytes as lone surrogates).
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from artfs.errors import printable

if TYPE_CHECKING:
    from artfs.client.interface import Progress

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def on_terminal() -> bool:
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2 if on_terminal() else None))


def print_line(text: str) -> None:
    click.echo(printable(text))


def note(text: str) -> None:
    """Tells people something that programs need not parse, on stderr."""
    click.echo(f"artfs: {printable(text)}", err=True)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Prints rows; the columns that are named `right` are numbers."""
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


def print_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Prints facts, one a line: what it is and its value."""
    if not on_terminal():
        print_table(("", ""), pairs)
        return
    width = max(len(key) for key, _ in pairs)
    for key, value in pairs:
        click.echo(f"{click.style(key.ljust(width), bold=True)}  {_cell(value)}")


def size(count: int) -> str:
    """Shows a number of bytes: for people with a unit, in a pipe as it is."""
    if not on_terminal():
        return str(count)
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024 or unit == "PiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def moment(timestamp: str) -> str:
    """Shows a time of a ``status``: for people to the second in local time, in a pipe as it is."""
    if not on_terminal():
        return timestamp
    from datetime import datetime

    return datetime.fromisoformat(timestamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@contextlib.contextmanager
def progress(labels: dict[str, str]) -> Iterator[Progress]:
    """Gives a progress that draws a bar on stderr, if that is a terminal; `labels` names the phases."""
    if not sys.stderr.isatty():
        yield lambda _phase, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        shown = 0.0

        def tell(phase: str, done: int, total: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if phase not in tasks:
                tasks[phase] = bars.add_task(labels.get(phase, phase), total=total or None, amount="")
            elif now - shown < 0.1 and done != total:
                return
            shown = now
            bars.update(tasks[phase], completed=done, total=total or None, amount=_amount(phase, done, total))

        yield tell


_IN_BYTES = ("copy", "blobs")


def _amount(phase: str, done: int, total: int) -> str:
    show: Callable[[int], str] = _short if phase in _IN_BYTES else str
    return f"{show(done)} / {show(total)}" if total else show(done)


def _short(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.1f} MiB"
