"""Commands that look at versions: ls, log, show, cat, get."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artfs.cli.names import VERSION, open_volume
from artfs.cli.output import (
    json_option,
    moment,
    on_terminal,
    print_json,
    print_line,
    print_pairs,
    print_table,
    progress,
    size,
)

if TYPE_CHECKING:
    from artfs.client.interface import Client, Entry

_KINDS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


@click.command()
@click.argument("what", metavar="[NAME[:V]]", required=False)
@click.argument("path", required=False)
@json_option
@click.pass_context
def ls(context: click.Context, what: str | None, path: str | None, as_json: bool) -> None:
    """List collections, versions or files.

    \b
      artfs ls
      artfs ls model
      artfs ls model:best weights
    """
    if path is not None and what is not None and ":" not in what:
        what += ":latest"
    with open_volume(context) as client:
        if what is None:
            _list_collections(client.collections(), as_json)
        elif ":" in what:
            name, ref = VERSION.convert(what, None, context)
            _list_files(client, name, ref, os.fsencode(path or ""), as_json)
        else:
            _list_versions(client.versions(what), as_json)


def _list_collections(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    headings = ("name", "type", "versions", "latest", "pending", "description")
    rows = [[*(c[key] for key in headings[:-2]), _pending(c), _first_line(c["description"])] for c in found]
    print_table(headings, rows, right=("versions", "pending"))


def _pending(collection: dict[str, Any]) -> str:
    count, abandoned = collection["pending"], collection["abandoned"]
    return f"{count} ({abandoned} abandoned)" if abandoned and on_terminal() else str(count)


def _list_versions(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
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


def _list_files(client: Client, name: str, ref: str, path: bytes, as_json: bool) -> None:
    entries = client.list_directory(name, ref, path)
    if as_json:
        print_json([_entry_json(entry) for entry in entries])
        return
    users: dict[int, str] = {}
    rows = [
        (
            stat.filemode(_KINDS[entry.kind] | entry.mode),
            _user(entry.uid, users),
            size(entry.size),
            _time(entry.mtime_ns),
            _shown_name(entry),
        )
        for entry in entries
    ]
    print_table(("mode", "owner", "size", "modified", "name"), rows, right=("size",))


def _entry_json(entry: Entry) -> dict[str, Any]:
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


def _shown_name(entry: Entry) -> str:
    name = os.fsdecode(entry.name)
    if entry.kind == "symlink":
        return f"{name} -> {os.fsdecode(entry.target)}"
    return name + "/" if entry.kind == "directory" else name


def _user(uid: int, known: dict[int, str]) -> str:
    if uid not in known:
        import pwd

        try:
            known[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            known[uid] = str(uid)
    return known[uid]


def _time(nanoseconds: int) -> str:
    from datetime import UTC, datetime

    try:
        return moment(datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    except (ValueError, OverflowError, OSError):
        return str(nanoseconds // 1_000_000_000)


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]


@click.command()
@click.argument("name")
@click.option("--graph", is_flag=True, help="Show the runs that made and used the versions, as trees.")
@click.option("--dot", is_flag=True, help="Print that graph for Graphviz.")
@json_option
@click.pass_context
def log(context: click.Context, name: str, graph: bool, dot: bool, as_json: bool) -> None:
    """Show the history of a collection, newest first; of a patch also the version that it is of.

    \b
      artfs log model
      artfs log model --graph
      artfs log model --dot | dot -Tsvg > model.svg
    """
    if graph or dot:
        _print_graph(context, name, dot, as_json)
        return
    with open_volume(context) as client:
        found = client.versions(name)[::-1]
    if as_json:
        print_json(found)
        return
    if not on_terminal():
        _print_log(found)
        return
    for version in found:
        aliases = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
        click.echo(click.style(f"{name}:{version['version']}", fg="yellow", bold=True) + aliases)
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


def _print_graph(context: click.Context, name: str, dot: bool, as_json: bool) -> None:
    from artfs.cli.graph import as_dot, as_text
    from artfs.client.lineage import lineage

    with open_volume(context) as client:
        found = lineage(client, name)
    if as_json:
        print_json(found.json())
        return
    for line in as_dot(found) if dot else as_text(found, name):
        click.echo(line)


def _print_log(found: list[dict[str, Any]]) -> None:
    keys = ("version", "created_at", "created_by", "file_count", "size", "distributed_id", "digest")
    rows = [[v[key] for key in keys] + [",".join(v["aliases"]), v["base"]] for v in found]
    print_table((*keys, "aliases", "base"), rows)


@click.command()
@click.argument("version", metavar="NAME[:V]", type=VERSION)
@json_option
@click.pass_context
def show(context: click.Context, version: tuple[str, str], as_json: bool) -> None:
    """Show all that is known of one version.

    \b
      artfs show model:best --json
    """
    with open_volume(context) as client:
        found = client.version(*version)
    if as_json:
        print_json(found)
        return
    import json

    def text(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return json.dumps(value) if value else ""
        if key == "size":
            return size(value)
        return moment(value) if key == "created_at" else value

    print_pairs([(key, text(key, value)) for key, value in found.items()])


@click.command()
@click.argument("version", metavar="NAME[:V]", type=VERSION)
@click.argument("path")
@click.pass_context
def cat(context: click.Context, version: tuple[str, str], path: str) -> None:
    """Write a file of a version to stdout.

    \b
      artfs cat model:best config.json
    """
    with open_volume(context) as client:
        fd = client.open_file(*version, os.fsencode(path))
        with open(fd, "rb", buffering=0) as file:
            while block := file.read(1 << 20):
                sys.stdout.buffer.write(block)


@click.command()
@click.argument("version", metavar="NAME[:V]", type=VERSION)
@click.argument("directory", required=False, type=click.Path(path_type=Path, readable=False))
@click.option("--path", "prefix", metavar="PREFIX", default="", help="Only this file or directory.")
@json_option
@click.pass_context
def get(
    context: click.Context, version: tuple[str, str], directory: Path | None, prefix: str, as_json: bool
) -> None:
    """Copy a version or a part of it out.

    It comes to DIRECTORY (default: ./NAME-vN), which is printed. Modes, times, symlinks, empty directories
    and user xattrs are restored. Each file appears whole or not at all; files that are there already under
    the same path are replaced, others stay. No symlink below DIRECTORY is followed. The bytes of references
    are brought from where they are.

    \b
      artfs get model:best ./model --path weights
    """
    from artfs.client.transfer.get import get as get_version

    with open_volume(context) as client, progress({"copy": "copying"}) as tell:
        done = get_version(client, *version, directory, prefix=os.fsencode(prefix), progress=tell)
    if as_json:
        print_json(done.json())
        return
    click.echo(os.fsencode(done.directory))


COMMANDS = (ls, log, show, cat, get)
