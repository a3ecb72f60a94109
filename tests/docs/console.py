"""Runs the console examples of a Markdown file in one shell, and compares what they print.

An example is a block fenced as ```console: a prompt `$ `, continuation lines with `> `, and the output below.
In the output `...` stands for any text within a line, and a line of `...` alone for any number of lines. The
examples of a file run from top to bottom in one bash, on a terminal 100 columns wide. /srv, /mnt and /tmp are
directories of the test; in the output they appear under these names again.

doctest's ELLIPSIS also matches across lines, sybil only finds the blocks, and cram and prysk read a format of
their own: hence finding and comparing is done here.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import click

WIDTH = 100
SECONDS = 120  # that a file's examples may take together

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACES = ("/srv", "/mnt", "/tmp")
_PLACE = re.compile(r"(?<![\w./-])/(srv|mnt|tmp)(?![\w-])")
_BASH_LINE = re.compile(r"^bash: (?:eval: )?line \d+: ", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """One command, and the output that the document shows."""

    line: int
    command: str
    expected: str

    def shown(self, output: str) -> list[str]:
        """Returns the lines of a document that shows this output."""
        prompt, *more = self.command.splitlines()
        return [f"$ {prompt}", *(f"> {line}" for line in more), *output.splitlines()]


def examples(text: str) -> list[Example]:
    """Returns the examples of a Markdown document, from top to bottom."""
    found = []
    for block in _BLOCK.finditer(text):
        number = text.count("\n", 0, block.start()) + 1
        command: list[str] = []
        expected: list[str] = []
        lines = block[1].splitlines()
        if not lines or not lines[0].startswith("$ "):
            raise ValueError(f"line {number}: a console block begins with a prompt, '$ '")
        for line in [*lines, "$ "]:
            number += 1
            if line.startswith("$ "):
                if command:
                    start = number - len(command) - len(expected)
                    found.append(Example(start, "\n".join(command), "".join(f"{e}\n" for e in expected)))
                command, expected = [line[2:]], []
            elif line.startswith("> ") and not expected:
                command.append(line[2:])
            else:
                expected.append(line)
    return found


def matches(expected: str, output: str) -> bool:
    """Tells whether an output is the expected one, in which `...` stands for anything."""
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern += "(?:.*\n)*"
        else:
            pattern += ".*".join(map(re.escape, line.split("..."))) + " *\n"
    return re.fullmatch(pattern, output) is not None


def check(path: Path, base: Path) -> None:
    """Runs the examples of a file below a directory, which it may fill; raises AssertionError with a diff."""
    found = examples(path.read_text())
    wrong = []
    for example, (status, output) in zip(found, _run([e.command for e in found], base), strict=True):
        if status and not output:
            output = f"(exit status {status} and no output)\n"
        if not matches(example.expected, output):
            diff = difflib.ndiff(example.shown(example.expected), example.shown(_alike(example, output)))
            wrong.append(f"{path.name}:{example.line}\n" + "\n".join(line for line in diff if line[0] != "?"))
    assert not wrong, "\n\n".join(["these examples print something else:", *wrong])


def _alike(example: Example, output: str) -> str:
    """Returns an output whose lines that the document shows with `...` are as it shows them."""
    vague = [line for line in example.expected.splitlines() if "..." in line and line.strip() != "..."]
    lines = output.splitlines()
    return "\n".join(next((e for e in vague if matches(f"{e}\n", f"{line}\n")), line) for line in lines)


def _run(commands: list[str], base: Path) -> list[tuple[int, str]]:
    """Runs commands in one shell; returns of each the exit status and what it printed."""
    for place in _PLACES:
        (base / place[1:]).mkdir()
    (base / "home").mkdir()
    mark = uuid.uuid4().hex
    moved = [_PLACE.sub(lambda match: f"{base}{match[0]}", command) for command in commands]
    script = "".join(f"eval {shlex.quote(command)}\nprintf '\\n{mark} %d\\n' $?\n" for command in moved)
    text = _on_terminal(["bash", "--norc", "-c", script, "bash"], base, until=mark, times=len(commands))
    for place in _PLACES:
        text = text.replace(f"{base}{place}", place)
    text = _BASH_LINE.sub("bash: ", click.unstyle(text.replace("\r\n", "\n")))
    parts = re.split(rf"(?:^|\n){mark} (\d+)\n", text)
    ran = [
        (int(status), output.removesuffix("\n") + "\n" if output else "")
        for output, status in zip(parts[:-1:2], parts[1::2], strict=True)
    ]
    return ran + [(0, "(not run: the shell ended or took too long)\n")] * (len(commands) - len(ran))


def _on_terminal(command: list[str], base: Path, *, until: str, times: int) -> str:
    """Runs a command on a terminal; returns what is there once a mark has been printed a number of times."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    shell = subprocess.Popen(
        command,
        cwd=base / "home",
        env=_environment(base),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    data, end = b"", time.monotonic() + SECONDS
    ended = re.compile(rb"%s \d+\r?\n" % until.encode())  # the exit status may come by a read of its own
    try:
        # Not to the end of file: what an example starts in the background keeps the terminal open.
        while len(ended.findall(data)) < times and (left := end - time.monotonic()) > 0:
            if not select.select([reader], [], [], left)[0]:
                break
            try:
                block = os.read(reader, 1 << 16)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            data += block
    finally:
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        shell.wait()
        os.close(reader)
    return data.decode(errors="backslashreplace")


def _environment(base: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("LOGNAME", "USER") if key in os.environ}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(base / "home"),
        "TMPDIR": str(base / "tmp"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "PAGER": "cat",
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHONWARNINGS": "ignore",
    }
