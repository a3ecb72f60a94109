"""Commands that read versions: ls, log, show, cat, get."""

from __future__ import annotations

import functools
import json
import os
import pwd
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artfs.cli import parameters
from artfs.cli.output import (
    json_option,
    moment,
    on_terminal,
    print_facts,
    print_json,
    print_line,
    print_result,
    print_table,
    progress,
    size,
)
from artfs.cli.parameters import with_client

if TYPE_CHECKING:
    from artfs.client.interface import Client
    from artfs.client.values import VersionEntry

_KINDS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}

_version_argument = click.argument("which", metavar="NAME[:V]", type=parameters.version)


@click.command()
@click.argument("what", metavar="[NAME[:V]]", required=False)
@click.argument("path", required=False)
@json_option
@with_client
def ls(client: Client, what: str | None, path: str | None, as_json: bool) -> None:
    """List collections, the versions of one, or the files of a version.

    \b
      artfs ls
      artfs ls model
      artfs ls model:best weights
    """
    if what is None:
        print_result(client.collections(), as_json, _print_collections)
    elif path is None and ":" not in what:
        print_result(client.versions(what), as_json, _print_versions)
    else:
        entries = client.list_directory(*parameters.version(what), os.fsencode(path or ""))
        print_result([_entry_json(entry) for entry in entries], as_json, lambda _: _print_files(entries))


def _print_collections(found: list[dict[str, Any]]) -> None:
    headings = ("name", "type", "versions", "latest", "pending", "description")
    rows = [[*(c[key] for key in headings[:-2]), _pending(c), c["description"].split("\n")[0]] for c in found]
    print_table(headings, rows, right=("versions", "pending"))


def _pending(collection: dict[str, Any]) -> str:
    count, abandoned = collection["pending"], collection["abandoned"]
    return f"{count} ({abandoned} abandoned)" if abandoned and on_terminal() else str(count)


def _print_versions(found: list[dict[str, Any]]) -> None:
    rows = [
        (
            version["version"],
            version["file_count"],
            size(version["size"]),
            moment(version["created_at"]),
            version["created_by"],
            ",".join(version["aliases"]),
            ",".join(version["tags"]),
        )
        for version in found
    ]
    headings = ("version", "files", "size", "created", "by", "aliases", "tags")
    print_table(headings, rows, right=("files", "size"))


def _print_files(entries: list[VersionEntry]) -> None:
    rows = [
        (
            stat.filemode(_KINDS[entry.kind] | entry.mode),
            _user(entry.uid),
            size(entry.size),
            _time(entry.mtime_ns),
            _shown_name(entry),
        )
        for entry in entries
    ]
    print_table(("mode", "owner", "size", "modified", "name"), rows, right=("size",))


def _entry_json(entry: VersionEntry) -> dict[str, Any]:
    found: dict[str, Any] = {
        "path": os.fsdecode(entry.path),
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": entry.mtime_ns,
    }
    return found | ({"target": os.fsdecode(entry.target)} if entry.kind == "symlink" else {})


def _shown_name(entry: VersionEntry) -> str:
    name = os.fsdecode(entry.name)
    if entry.kind == "symlink":
        return f"{name} -> {os.fsdecode(entry.target)}"
    return name + "/" if entry.kind == "directory" else name


@functools.cache
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _time(nanoseconds: int) -> str:
    try:
        return moment(datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    except (ValueError, OverflowError, OSError):
        return str(nanoseconds // 1_000_000_000)


@click.command()
@click.argument("name")
@click.option("--graph", is_flag=True, help="Show the runs that made and used the versions, as trees.")
@click.option("--dot", is_flag=True, help="Print that graph for Graphviz.")
@json_option
@with_client
def log(client: Client, name: str, graph: bool, dot: bool, as_json: bool) -> None:
    """Show the versions of a collection, newest first, and of each patch its base.

    \b
      artfs log model
      artfs log model --graph
      artfs log model --dot | dot -Tsvg > model.svg
    """
    if not graph and not dot:
        print_result(client.versions(name)[::-1], as_json, _print_log)
        return
    from artfs.cli.graph import as_dot, as_text
    from artfs.client.lineage import lineage

    found = lineage(client, name)
    if as_json:
        print_json(found.json())
        return
    for line in as_dot(found) if dot else as_text(found, name):
        click.echo(line)


def _print_log(found: list[dict[str, Any]]) -> None:
    if not on_terminal():
        keys = ("version", "created_at", "created_by", "file_count", "size", "distributed_id", "digest")
        rows = [[v[key] for key in keys] + [",".join(v["aliases"]), v["base"]] for v in found]
        print_table((*keys, "aliases", "base"), rows)
        return
    for version in found:
        aliases = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
        title = f"{version['collection']}:{version['version']}"
        click.echo(click.style(title, fg="yellow", bold=True) + aliases)
        facts = [
            ("digest", version["digest"]),
            ("made", f"{moment(version['created_at'])} by {version['created_by']}"),
            ("id", version["distributed_id"]),
            ("base", version["base"]),
            ("content", f"{version['file_count']} files, {size(version['size'])}"),
            ("runs", ", ".join(version["runs"])),
            ("tags", ", ".join(version["tags"])),
        ]
        for key, value in facts:
            if value:
                print_line(f"    {key:<8} {value}")
        click.echo()


@click.command()
@_version_argument
@json_option
@with_client
def show(client: Client, which: tuple[str, str], as_json: bool) -> None:
    """Show everything that is recorded about a version.

    \b
      artfs show model:best --json
    """
    print_result(client.version(*which), as_json, _print_version)


def _print_version(found: dict[str, Any]) -> None:
    shown = found | {"size": size(found["size"]), "created_at": moment(found["created_at"])}
    print_facts([(k, (json.dumps(v) if v else "") if isinstance(v, dict) else v) for k, v in shown.items()])


@click.command()
@_version_argument
@click.argument("path")
@with_client
def cat(client: Client, which: tuple[str, str], path: str) -> None:
    """Write a file of a version to stdout.

    \b
      artfs cat model:best config.json
    """
    with open(client.open_file(*which, os.fsencode(path)), "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            sys.stdout.buffer.write(block)


@click.command()
@_version_argument
@click.argument("directory", required=False, type=click.Path(path_type=Path, readable=False))
@click.option("--path", "prefix", metavar="PREFIX", default="", help="Copy only this file or directory.")
@json_option
@with_client
def get(client: Client, which: tuple[str, str], directory: Path | None, prefix: str, as_json: bool) -> None:
    """Copy a version, or a part of it, to DIRECTORY, and print DIRECTORY.

    The default is ./NAME-vN. Modes, times, symlinks, empty directories and user xattrs are restored. Each
    file appears whole or not at all. Files that exist under the same path are replaced, others stay. No
    symlink below DIRECTORY is followed. The bytes of references are fetched.

    \b
      artfs get model:best ./model --path weights
    """
    from artfs.client.transfer.get import get as get_version

    with progress({"copy": "copying"}) as show:
        done = get_version(client, *which, directory, prefix=os.fsencode(prefix), progress=show)
    print_result(done.json(), as_json, lambda _: click.echo(os.fsencode(done.directory)))


COMMANDS = (ls, log, show, cat, get)
