"""The command `diff`, which compares versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from artfs.cli.output import json_option, print_json, print_line, print_table, size
from artfs.cli.parameters import version_or_pending, with_client

if TYPE_CHECKING:
    from artfs.client.interface import Client
    from artfs.model.diff import Change, Item

_LETTERS = {"added": "A", "removed": "D", "changed": "M", "mode": "P", "kind": "T", "renamed": "R"}
_WITHOUT_BYTES = ("mode", "renamed")  # these changes move no bytes, so their totals have no sizes


@click.command()
@click.argument("old", metavar="NAME:V1|NAME/ID", type=version_or_pending)
@click.argument("new", metavar="[V2]", required=False)
@click.option("--stat", is_flag=True, help="Print only totals: the entries and bytes of each kind of change.")
@click.option("--exit-code", is_flag=True, help="Exit with status 1 if the versions differ.")
@json_option
@with_client
def diff(
    client: Client, old: tuple[str, str | bytes], new: str | None, stat: bool, exit_code: bool, as_json: bool
) -> bool:
    """Compare two versions, or a pending version with its base.

    V2 is a version or alias of the same collection, or OTHER:V of another one. NAME/ID is a pending version,
    which is compared with its base. Each entry that differs is a line, in the order of paths; directories end
    in a slash:

    \b
      A path                      added
      D path                      removed
      M path (5 -> 7)             changed: the sizes, or the target of a symlink or reference
      P path (0644 -> 0600)       only the permission bits differ
      T path (file -> symlink)    of another kind
      R old -> new                renamed: the same content; a directory with everything in it

    Times, owners and xattrs are not compared. Only the directories that differ are read.

    Exit status 0, also if the versions differ; with --exit-code 1 if they differ.

    \b
      artfs diff model:v3 latest
      artfs diff model:v3 v4 --stat
      artfs diff model/job-42
    """
    name, which = old
    if isinstance(which, bytes):
        if new is not None:
            raise click.UsageError("a pending version, NAME/ID, is compared with its base: omit V2")
        changes = client.changes(name, which)
    elif new is None:
        raise click.UsageError("give two versions, NAME:V1 V2, or a pending version, NAME/ID")
    else:
        changes = client.diff(name, which, new)
    if stat:
        _print_totals(_totals(changes), as_json)
    elif as_json:
        print_json([change.json() for change in changes])
    else:
        for change in changes:
            print_line(_line(change))
    return not (exit_code and changes)


def _line(change: Change) -> str:
    found = change.json()
    old, new = change.old, change.new
    slash = "/" if all(item.kind == "directory" for item in (old, new) if item is not None) else ""
    text = found["path"] + slash
    if change.change == "renamed":
        text = f"{found['old_path']}{slash} -> {text}"
    if old is not None and new is not None:
        text += _facts(change, old, new)
    return f"{_LETTERS[change.change]} {text}"


def _facts(change: Change, old: Item, new: Item) -> str:
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
    """Counts the changes of each kind, and the bytes of the files among them, before and after."""
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
