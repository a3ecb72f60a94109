"""Commands that make versions: new, put, refer, finish, rebase, discard, pending."""

from __future__ import annotations

import os
from typing import Any

import click

from artfs.cli.names import PENDING, open_volume
from artfs.cli.output import json_option, moment, note, print_json, print_line, print_table, progress, size

_base_option = click.option(
    "--base",
    metavar="V",
    help="Start from this version: v3, an alias, or OTHER:V of another collection.",
)


@click.command()
@click.argument("name")
@click.option("--type", "kind", metavar="T", help="The type of the collection, like model or dataset.")
@click.option("--id", "distributed_id", metavar="ID", help="The distributed id. Default: a new one.")
@_base_option
@json_option
@click.pass_context
def new(
    context: click.Context,
    name: str,
    kind: str | None,
    distributed_id: str | None,
    base: str | None,
    as_json: bool,
) -> None:
    """Start a pending version and print its directory.

    The collection NAME is made if it is not there. Without a mount there is no directory to hand out: then
    NAME/ID is printed, and `artfs put --id ID` brings the files.

    With --base it is a patch: it shows all of that version at once, and what is not changed takes no space
    and no time. A base that is given by number stays; an alias is followed, and `artfs finish` merges.

    \b
      cd "$(artfs new model --id job-42)"
      cd "$(artfs new dataset --base latest)" && rm bad.png && artfs finish dataset/...
    """
    with open_volume(context) as client:
        wanted = None if distributed_id is None else os.fsencode(distributed_id)
        started = client.new(name, wanted, kind=kind, base=base)
    text = os.fsdecode(started.distributed_id)
    if as_json:
        path = None if started.path is None else str(started.path)
        print_json({"collection": name, "distributed_id": text, "path": path})
    elif started.path is not None:
        click.echo(os.fsencode(started.path))  # as it is: a shell goes there
    else:
        click.echo(os.fsencode(f"{name}/{text}"))


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("--name", required=True, help="The collection, which is made if it is not there.")
@click.option("--type", "kind", metavar="T", help="The type of the collection, like model or dataset.")
@click.option("--alias", "aliases", metavar="A", multiple=True, help="An alias for the version; repeatable.")
@click.option(
    "--id",
    "distributed_id",
    metavar="ID",
    help="Add to the pending version ID instead, and leave it pending.",
)
@_base_option
@click.option(
    "--exclude",
    "excludes",
    metavar="GLOB",
    multiple=True,
    help="Leave out what matches: '*.tmp' by name at any depth, 'logs/*.txt' by path; repeatable.",
)
@click.option(
    "--follow-symlinks",
    type=click.Choice(["never", "outside", "always"]),
    default="outside",
    show_default=True,
    help="Which symlinks in a directory are taken for what they lead to.",
)
@json_option
@click.pass_context
def put(
    context: click.Context,
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

    Of a directory its content comes to the top of the tree, a file under its own name. Modes, times, empty
    directories and user xattrs are kept, and the tree's root gets those of the directory itself, as `cp -a
    DIR/.` does it: of the last one, where several are given.

    A symlink to something in the same directory stays a symlink. One that leads out of it is taken for the
    file or directory that it leads to; if that is not there, can't be read or holds the symlink itself, it
    stays a symlink, and a line on stderr names it. With --follow-symlinks=never all stay symlinks, as is
    right for directories of users who are not trusted; with =always all are followed, and one that can't be
    is an error.

    With --id the files come into the pending version of that id, which is started if need be and stays
    pending: any number of processes can bring files, and `artfs finish NAME/ID` makes the version, which
    then gets the aliases given here too. What stands in the tree under the same path is replaced.

    With --base the version is that one with the files in it.

    \b
      artfs put out/ --name model --type model --alias best
      artfs put part-1/ --name model --id job-42
      artfs put today/ --name dataset --base latest
    """
    from artfs.client.transfer.put import Sources, add
    from artfs.client.transfer.put import put as put_version
    from artfs.client.transfer.symlink_policy import Follow, about_kept
    from artfs.client.transfer.tree_paths import Excludes

    where = [os.fsencode(path) for path in paths]
    sources = Sources(where, Excludes(excludes), follow=Follow(follow_symlinks))
    with open_volume(context) as client, progress({"copy": "copying", "finish": "finishing"}) as tell:
        if distributed_id is None:
            answer = put_version(client, sources, name, kind=kind, base=base, aliases=aliases, progress=tell)
        else:
            answer = add(
                client,
                sources,
                name,
                os.fsencode(distributed_id),
                kind=kind,
                base=base,
                aliases=aliases,
                progress=tell,
            )
    if kept := about_kept(sources.kept):
        note(kept)
    if distributed_id is None:
        _print_answer(name, answer, as_json)
    elif as_json:
        print_json(answer)
    else:
        click.echo(os.fsencode(f"{name}/{distributed_id}"))


@click.command()
@click.argument("pending", metavar="NAME/ID", type=PENDING)
@click.argument("aliases", metavar="[ALIAS]...", nargs=-1)
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0, 7 * 86400),
    help="How long to wait for files to be closed and runs to leave. Default: 2.",
)
@click.option(
    "--force", is_flag=True, help="Seal what was written so far, whoever has files open or has joined."
)
@json_option
@click.pass_context
def finish(
    context: click.Context,
    pending: tuple[str, bytes],
    aliases: tuple[str, ...],
    wait: float | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a pending version into a version, and print it.

    If nothing differs from the newest version, that one gets the aliases, tags, metadata and description, and
    is printed. Finishing again is harmless.

    \b
      artfs finish model/job-42 best
    """
    name, distributed_id = pending
    with open_volume(context) as client:
        answer = client.finish(name, distributed_id, aliases, wait=wait, force=force)
    _print_answer(name, {"collection": name, **answer}, as_json)


def _print_answer(name: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_line(f"{name}:{answer['version']}")
    if answer["unchanged"]:
        updated = answer.get("updated", ())
        got = f", which got the given {', '.join(updated)}" if updated else ""
        note(f"nothing new: it is {name}:{answer['version']}{got}")


@click.command()
@click.argument("pending", metavar="NAME/ID", type=PENDING)
@click.argument("uri", required=False)
@click.argument("path", required=False)
@click.option("--no-checksum", is_flag=True, help="Don't note which bytes are there now.")
@click.option("--max-objects", metavar="N", type=click.IntRange(1), help="Refuse a directory with more.")
@json_option
@click.pass_context
def refer(
    context: click.Context,
    pending: tuple[str, bytes],
    uri: str | None,
    path: str | None,
    no_checksum: bool,
    max_objects: int | None,
    as_json: bool,
) -> None:
    """Add files whose bytes stay where they are; without a URI list those that there are.

    URI is file:///PATH, http(s)://, s3://, gs://, az:// or artfs://COLLECTION:V/PATH. Of a directory or
    prefix all objects are added, below PATH, by default at the top; a single object has its own name if no
    PATH is given. Size and checksum (a digest, ETag or version) are noted, and a read that would give other
    bytes fails.

    \b
      artfs refer dataset/job-42 s3://bucket/images/ images
      artfs refer dataset/job-42
    """
    with open_volume(context) as client:
        if uri is not None:
            where = os.fsencode(path or "")
            client.add_reference(*pending, where, uri, checksum=not no_checksum, max_objects=max_objects)
            return
        found = client.references(*pending)
    if as_json:
        print_json(found)
        return
    keys = ("path", "uri", "size", "checksum")
    print_table(keys, [[size(line[key]) if key == "size" else line[key] for key in keys] for line in found])


@click.command()
@click.argument("pending", metavar="NAME/ID", type=PENDING)
@click.pass_context
def rebase(context: click.Context, pending: tuple[str, bytes]) -> None:
    """Bring a patch up to where its base has moved.

    The base must have been given as an alias. What only the other side changed is taken, and then shows in
    the pending version too. Where both sides changed a path in different ways nothing is done and the paths
    are listed, by this and by `artfs finish`: look at both sides, make each path what it shall be, and rebase
    again, which then keeps yours of those that were listed.

    \b
      artfs rebase dataset/job-42
    """
    from artfs.errors import InvalidCommand

    with open_volume(context) as client:
        base = client.pending_status(*pending)["base"]
        if base is None:
            raise InvalidCommand("it is no patch: it was started without a base")
        client.set_base(*pending, base)
        print_line(f"{pending[0]}:{client.pending_status(*pending)['base_version']}")


@click.command()
@click.argument("pending", metavar="NAME/ID", type=PENDING)
@click.pass_context
def discard(context: click.Context, pending: tuple[str, bytes]) -> None:
    """Give a pending version up, with all its files. The id can be started again.

    \b
      artfs discard model/job-42
    """
    with open_volume(context) as client:
        client.discard(*pending)


@click.command()
@click.argument("name", required=False)
@json_option
@click.pass_context
def pending(context: click.Context, name: str | None, as_json: bool) -> None:
    """List what is pending, in one collection or in all.

    What is abandoned was made by a process for itself that was killed: `artfs gc` discards it.

    \b
      artfs pending model
    """
    from artfs.errors import AlreadyFinishedError, CollectionNotFound, NotFound

    found = []
    with open_volume(context) as client:
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
    if as_json:
        print_json(found)
        return
    headings = ("id", "state", "files", "size", "open", "runs", "started", "by", "base")
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
        if status["state"] != "sealed"
    ]
    print_table(headings, rows, right=("files", "size", "open"))


COMMANDS = (new, put, refer, finish, rebase, discard, pending)
