"""Commands on pending versions: new, put, refer, finish, rebase, discard, pending."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from artfs.cli.output import (
    json_option,
    moment,
    print_json,
    print_line,
    print_note,
    print_result,
    print_table,
    progress,
    size,
)
from artfs.cli.parameters import pending_version, with_client

if TYPE_CHECKING:
    from artfs.client.interface import Client

_type_option = click.option(
    "--type", "kind", metavar="T", help="The collection's type, like model or dataset."
)
_base_option = click.option(
    "--base",
    metavar="V",
    help="Start from this version: v3, an alias, or OTHER:V of another collection.",
)
_pending_argument = click.argument("pending", metavar="NAME/ID", type=pending_version)


@click.command()
@click.argument("name")
@_type_option
@click.option("--id", "distributed_id", metavar="ID", help="The distributed id. Default: a new one.")
@_base_option
@json_option
@with_client
def new(
    client: Client, name: str, kind: str | None, distributed_id: str | None, base: str | None, as_json: bool
) -> None:
    """Start a pending version and print its directory.

    Makes the collection NAME if it does not exist. Without a mount there is no directory: NAME/ID is printed,
    and `artfs put --id ID` adds the files.

    With --base it is a patch: it shows the whole content of that version at once, and what does not change
    takes no space and no time. A base given by number stays fixed. A base given by alias is followed: if the
    alias moves, `artfs finish` merges.

    \b
      cd "$(artfs new model --id job-42)"
      cd "$(artfs new dataset --id fix --base latest)" && rm bad.png && artfs finish dataset/fix
    """
    chosen = None if distributed_id is None else os.fsencode(distributed_id)
    started = client.new(name, chosen, kind=kind, base=base)
    text = os.fsdecode(started.distributed_id)
    if as_json:
        path = None if started.path is None else str(started.path)
        print_json({"collection": name, "distributed_id": text, "path": path})
    else:  # not escaped: a shell uses it
        click.echo(os.fsencode(started.path or f"{name}/{text}"))


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("--name", required=True, help="The collection, which is made if it does not exist.")
@_type_option
@click.option("--alias", "aliases", metavar="A", multiple=True, help="An alias for the version; repeatable.")
@click.option(
    "--id", "distributed_id", metavar="ID", help="Add to the pending version ID, and leave it pending."
)
@_base_option
@click.option(
    "--exclude",
    "excludes",
    metavar="GLOB",
    multiple=True,
    help="Leave out what a .gitignore would: '*.tmp' by name at any depth, 'logs/*.txt' by path; repeatable.",
)
@click.option(
    "--follow-symlinks",
    type=click.Choice(["never", "outside", "always"]),
    default="outside",
    show_default=True,
    help="Which symlinks in a directory are replaced by what they lead to.",
)
@json_option
@with_client
def put(
    client: Client,
    paths: tuple[str, ...],
    name: str,
    kind: str | None,
    aliases: tuple[str, ...],
    distributed_id: str | None,
    base: str | None,
    excludes: tuple[str, ...],
    follow_symlinks: str,
    as_json: bool,
) -> None:
    """Copy files into a new version and print it.

    The content of a directory is copied to the root of the version, a file to its own name there. Modes,
    times, empty directories and user xattrs are kept. The root gets those of the directory, as with `cp -a
    DIR/.`; of several directories the last one counts.

    A symlink to something in the same directory stays a symlink. One that leads out of it is replaced by the
    file or directory that it leads to. If that does not exist, can't be read or contains the symlink, it
    stays a symlink, and a line on stderr names it. --follow-symlinks=never keeps all symlinks: use it for
    directories of users who are not trusted. --follow-symlinks=always follows all, and refuses one that
    can't be followed.

    With --id the files are added to the pending version of that id, which is started if it does not exist
    and stays pending. Any number of processes can add files. `artfs finish NAME/ID` makes the version, with
    the aliases given here. Files under the same path are replaced.

    With --base the version consists of that version and the files.

    \b
      artfs put out/ --name model --type model --alias best
      artfs put part-1/ --name model --id job-42
      artfs put today/ --name dataset --base latest
    """
    from artfs.client.transfer import put as transfer
    from artfs.client.transfer.sources import Excludes, Sources
    from artfs.client.transfer.symlink_policy import FollowSymlinks, describe_kept

    given = [os.fsencode(path) for path in paths]
    sources = Sources(given, Excludes(excludes), follow=FollowSymlinks(follow_symlinks))
    with progress({"copy": "copying", "finish": "finishing"}) as show:
        options: dict[str, Any] = {"kind": kind, "base": base, "aliases": aliases, "progress": show}
        if distributed_id is None:
            answer = transfer.put(client, sources, name, **options)
        else:
            answer = transfer.add(client, sources, name, os.fsencode(distributed_id), **options)
    if kept := describe_kept(sources.kept):
        print_note(kept)
    if distributed_id is None:
        _print_answer(name, answer, as_json)
    elif as_json:
        print_json(answer)
    else:
        click.echo(os.fsencode(f"{name}/{distributed_id}"))


@click.command()
@_pending_argument
@click.argument("aliases", metavar="[ALIAS]...", nargs=-1)
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0, 7 * 86400),
    help="How long to wait for files to be closed and runs to leave. Default: 2.",
)
@click.option(
    "--force", is_flag=True, help="Seal what is written so far, despite open files and joined runs."
)
@json_option
@with_client
def finish(
    client: Client,
    pending: tuple[str, bytes],
    aliases: tuple[str, ...],
    wait: float | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a pending version into a version, and print it.

    If the tree equals the newest version, no new one is made: that version gets the aliases, tags, metadata
    and description, and is printed. Finishing again does no harm.

    \b
      artfs finish model/job-42 best
    """
    answer = client.finish(*pending, aliases, wait=wait, force=force)
    _print_answer(pending[0], {"collection": pending[0], **answer}, as_json)


def _print_answer(name: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_line(f"{name}:{answer['version']}")
    if answer["unchanged"]:
        updated = ", ".join(answer.get("updated", ()))
        received = f", which received the given {updated}" if updated else ""
        print_note(f"no new version: the tree equals {name}:{answer['version']}{received}")


@click.command()
@_pending_argument
@click.argument("uri", required=False)
@click.argument("path", required=False)
@click.option("--no-checksum", is_flag=True, help="Don't record which bytes are there now.")
@click.option(
    "--max-objects", metavar="N", type=click.IntRange(1), help="Refuse a directory with more objects."
)
@json_option
@with_client
def refer(
    client: Client,
    pending: tuple[str, bytes],
    uri: str | None,
    path: str | None,
    no_checksum: bool,
    max_objects: int | None,
    as_json: bool,
) -> None:
    """Add references: files whose bytes stay where they are. Without a URI, list them.

    URI is file:///PATH, http(s)://, s3://, gs://, az:// or artfs://COLLECTION:V/PATH. All objects of a
    directory or prefix are added below PATH, by default at the root; a single object keeps its name if no
    PATH is given. Size and checksum (a digest, ETag or version) are recorded, and a read fails if the bytes
    are no longer the same.

    \b
      artfs refer dataset/job-42 s3://bucket/images/ images
      artfs refer dataset/job-42
    """
    if uri is not None:
        where = os.fsencode(path or "")
        client.add_reference(*pending, where, uri, checksum=not no_checksum, max_objects=max_objects)
        return
    print_result(client.references(*pending), as_json, _print_references)


def _print_references(found: list[dict[str, Any]]) -> None:
    rows = [(line["path"], line["uri"], size(line["size"]), line["checksum"]) for line in found]
    print_table(("path", "uri", "size", "checksum"), rows)


@click.command()
@_pending_argument
@with_client
def rebase(client: Client, pending: tuple[str, bytes]) -> None:
    """Update a patch to the version that its base is now.

    The base must have been given as an alias. What only the other side changed then shows in the pending
    version too. If both sides changed a path in different ways, nothing is done, and this command and `artfs
    finish` list the paths. Compare both sides, give each path its final content, and rebase again: that keeps
    your side of the paths that were listed.

    \b
      artfs rebase dataset/job-42
    """
    from artfs.errors import InvalidCommand

    base = client.pending_status(*pending)["base"]
    if base is None:
        name = os.fsdecode(b"/".join((os.fsencode(pending[0]), pending[1])))
        raise InvalidCommand(f"cannot rebase '{name}': it was started without a base")
    client.set_base(*pending, base)
    print_line(f"{pending[0]}:{client.pending_status(*pending)['base_version']}")


@click.command()
@_pending_argument
@with_client
def discard(client: Client, pending: tuple[str, bytes]) -> None:
    """Delete a pending version with all its files. The id can be used again.

    \b
      artfs discard model/job-42
    """
    client.discard(*pending)


@click.command()
@click.argument("name", required=False)
@json_option
@with_client
def pending(client: Client, name: str | None, as_json: bool) -> None:
    """List the pending versions of one collection or of all.

    An abandoned one was made by a process for itself, and the process was killed: `artfs gc` discards it.

    \b
      artfs pending model
    """
    from artfs.errors import AlreadyFinishedError, CollectionNotFound, NotFound

    found = []
    for collection in [name] if name else [known["name"] for known in client.collections()]:
        try:
            ids = client.pending_names(collection)
        except CollectionNotFound:
            if name:
                raise
            continue  # removed since
        for distributed_id in ids:
            try:
                found.append(client.pending_status(collection, distributed_id))
            except (NotFound, AlreadyFinishedError):
                continue  # finished or discarded since
    print_result([status for status in found if status["state"] != "sealed"], as_json, _print_pending)


def _print_pending(found: list[dict[str, Any]]) -> None:
    rows = [
        (
            f"{status['collection']}/{status['distributed_id']}",
            "abandoned" if status.get("abandoned") else status["state"],
            status["files"],
            size(status["bytes"]),
            len(status["open_for_write"]),
            ",".join(status["runs"]),
            moment(status["created_at"]),
            status["created_by"],
            status["base"],
        )
        for status in found
    ]
    headings = ("id", "state", "files", "size", "open", "runs", "started", "by", "base")
    print_table(headings, rows, right=("files", "size", "open"))


COMMANDS = (new, put, refer, finish, rebase, discard, pending)
