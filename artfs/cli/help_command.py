"""The command `help`: lists the manual's topics, and pages one of them.

The manual is the Markdown files in ``artfs/docs``, one per topic. Each begins with a heading and a sentence,
which the list shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from artfs.cli.output import on_terminal, print_note, print_table

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


@click.command("help")
@click.argument("topic", metavar="[TOPIC|COMMAND]", required=False)
@click.pass_context
def help_command(context: click.Context, topic: str | None) -> None:
    """Show a topic of the manual or the options of a command; without an argument list the topics.

    \b
      artfs help
      artfs help patches
      artfs help put
    """
    topics = _topics()
    if topic is None:
        print_table(("topic", "what it covers"), [(name, _summary(page)) for name, page in topics.items()])
        if on_terminal():
            print_note("'artfs help TOPIC' shows a topic, 'artfs help COMMAND' the options of a command")
    elif topic in topics:
        text = topics[topic].read_text(encoding="utf-8")
        click.echo_via_pager(_rendered(text) if on_terminal() else text, color=None)
    else:
        click.echo(_help_of_command(context, topic))


def _topics() -> dict[str, Traversable]:
    """Returns the manual's files by topic, in alphabetical order."""
    from importlib import resources

    pages = resources.files("artfs").joinpath("docs").iterdir()
    return dict(sorted((page.name[:-3].lower(), page) for page in pages if page.name.endswith(".md")))


def _summary(page: Traversable) -> str:
    """Returns the first sentence below the heading."""
    _, _, text = page.read_text(encoding="utf-8").partition("\n\n")
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + stop.rstrip()


def _rendered(text: str) -> str:
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.capture() as capture:
        console.print(Markdown(text, hyperlinks=False))
    return capture.get()


def _help_of_command(context: click.Context, name: str) -> str:
    group = context.find_root()
    assert isinstance(group.command, click.Group)
    command = group.command.get_command(group, name)
    if command is None:
        raise click.UsageError(f"there is no topic or command '{name}'; 'artfs help' lists the topics")
    return command.get_help(click.Context(command, parent=group, info_name=name))


COMMANDS = (help_command,)
