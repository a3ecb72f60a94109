"""The command that compares versions: diff."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from artfs.cli import exits
from artfs.cli.names import VERSION_OR_PENDING, open_volume
from artfs.cli.output import json_option, print_json, print_line, print_table, size

if TYPE_CHECKING:
    from artfs.model.diff import Change, Item

_LETTERS = {"added": "A", "removed": "D", "changed": "M", "mode": "P", "kind": "T", "renamed": "R"}
#: What moves no bytes has no sizes in the totals.
_WITHOUT_BYTES = ("mode", "renamed")


@click.command()
@click.argument("old", metavar="NAME:V1|NAME/ID", type=VERSION_OR_PENDING)
@click.argument("new", metavar="[V2]", required=False)
@click.option("--stat", is_flag=True, help="Only the totals: how many entries of each sort, and their bytes.")
@click.option("--exit-code", is_flag=True, help="End with exit status 1 if the versions differ.")
@json_option
@click.pass_context
def diff(
    context: click.Context,
    old: tuple[str, str | bytes],
    new: str | None,
    stat: bool,
    exit_code: bool,
    as_json: bool,
) -> int:
    """Show what differs between two versions, or what a pending one has changed.

    V2 is a version or alias of the same collection, or OTHER:V of another. NAME/ID is a pending version: it
    is compared with its base. One line for each entry, in the order of paths; directories end in a slash:

    \b
      A path                      added
      D path                      removed
      M path (5 -> 7)             changed: the sizes, or what a symlink or reference points to
      P path (0644 -> 0600)       only the permission bits differ
      T path (file -> symlink)    of another kind
      R old -> new                renamed: the same content, of a directory with all that is in it

    Times, owners and xattrs make no difference. Versions are read only where they differ.

    Exit status 0, whether they differ or not; with --exit-code 1 if they differ.

    \b
      artfs diff model:v3 latest
      artfs diff model:v3 v4 --stat
      artfs diff model/job-42
    """
    name, which = old
    if isinstance(which, bytes) != (new is None):
        raise click.UsageError("give two versions, NAME:V1 V2, or a pending one, NAME/ID")
    with open_volume(context) as client:
        if isinstance(which, bytes):
            found = client.changes(name, which)
        else:
            found = client.diff(name, which, new or "")
    if stat:
        _print_totals(_totals(found), as_json)
    elif as_json:
        print_json([change.json() for change in found])
    else:
        for change in found:
            print_line(_line(change))
    return exits.REFUSED if exit_code and found else 0


def _line(change: Change) -> str:
    told = change.json()
    path, before = told["path"], told["old_path"]
    old, new = change.old, change.new
    sides = [item for item in (old, new) if item is not None]
    slash = "/" if all(item.kind == "directory" for item in sides) else ""
    what = path + slash
    if change.change == "renamed":
        what = f"{before}{slash} -> {what}"
    if old is not None and new is not None:
        what += _from_to(change, old, new)
    return f"{_LETTERS[change.change]} {what}"


def _from_to(change: Change, old: Item, new: Item) -> str:
    if change.change == "kind":
        return f" ({old.kind} -> {new.kind})"
    facts = []
    if change.change == "changed":
        if new.kind == "symlink":
            facts.append(f"{old.target} -> {new.target}")
        elif new.uri != old.uri:
            facts.append(f"{old.uri} -> {new.uri}")
        else:
            facts.append(f"{size(old.size or 0)} -> {size(new.size or 0)}")
    if old.mode != new.mode:
        facts.append(f"{old.mode} -> {new.mode}")
    return f" ({', '.join(facts)})" if facts else ""


def _totals(found: Sequence[Change]) -> dict[str, dict[str, int]]:
    """Counts the changes of each sort, and the bytes of the files among them, before and after."""
    totals: dict[str, dict[str, int]] = {}
    for kind in _LETTERS:
        changes = [change for change in found if change.change == kind]
        totals[kind] = {"entries": len(changes)}
        if kind not in _WITHOUT_BYTES:
            totals[kind]["old_bytes"] = _bytes(change.old for change in changes)
            totals[kind]["new_bytes"] = _bytes(change.new for change in changes)
    return totals


def _bytes(items: Iterable[Item | None]) -> int:
    return sum(item.size or 0 for item in items if item is not None)


def _print_totals(totals: dict[str, dict[str, int]], as_json: bool) -> None:
    if as_json:
        print_json(totals)
        return
    rows = []
    for kind, counts in totals.items():
        sizes = [size(counts[key]) if key in counts else "" for key in ("old_bytes", "new_bytes")]
        rows.append((kind, counts["entries"], *sizes))
    print_table(("change", "entries", "before", "after"), rows, right=("entries", "before", "after"))


COMMANDS = (diff,)
