"""Every console example of README and of the manual prints what the document shows."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import console
from tests.mount.mounting import PLACE, REPOSITORY, artfs

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "artfs" / "docs").glob("*.md"))]


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that other users can reach, in which mounts are taken away at the end."""
    with tempfile.TemporaryDirectory(dir=PLACE, prefix="artfs-docs-") as name:
        base = Path(name)
        base.chmod(0o755)
        try:
            yield base
        finally:
            for point in _mounts(base):
                artfs("umount", point)


def _mounts(base: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(f"{base}/")]


def _shows_a_mount(document: Path) -> bool:
    return any("artfs mount" in example.command for example in console.examples(document.read_text()))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(document, id=document.name, marks=pytest.mark.fuse if _shows_a_mount(document) else ())
        for document in DOCUMENTS
        if console.examples(document.read_text())
    ],
)
def test_an_example_prints_what_is_shown(document: Path, base: Path) -> None:
    console.check(document, base)


def _checked(base: Path, text: str) -> None:
    document = base / "document.md"
    document.write_text(text)
    console.check(document, base)


def test_a_session_is_one_shell_on_a_terminal(base: Path) -> None:
    _checked(
        base,
        """
```console
$ cd /srv; exec 3<>file; echo text >&3
$ pwd; cat file
/srv
text
$ test -t 1 && for word in a b; do
>     printf '\\e[1m%s\\e[0m\\n' $word
> done
a
b
$ printf 'without a newline'
without a newline
```
Text.
```console
$ pwd
/srv
$ artfs init /srv/vol && artfs --volume /srv/vol status
artfs: made a volume at /srv/vol; mount it with 'artfs mount /srv/vol DIRECTORY'
version ...
...
store ... /srv/vol
...
$ echo text > /no/such/file
bash: /no/such/file: No such file or directory
```
```sh
$ exit 1
```
""",
    )


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ("$ echo text\ntest", "+ text"),
        ("$ echo text", "+ text"),
        ("$ true\ntext", "- text"),
        ("$ false", "exit status 1"),
        ("$ exit", "not run"),
        ("$ echo a b; echo c\na ...", "+ c"),
    ],
)
def test_a_difference_is_reported(base: Path, shown: str, why: str) -> None:
    with pytest.raises(AssertionError, match=r"document.md:2\n") as caught:
        _checked(base, f"```console\n{shown}\n```\n")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("expected", "output", "equal"),
    [
        ("", "", True),
        ("a\n...\nb\n", "a\nb\n", True),
        ("a\n...\nb\n", "a\nx\ny\nb\n", True),
        ("a ... b\n", "a x y b\n", True),
        ("a ... b\n", "a x\ny b\n", False),
        ("...\n", "", True),
        ("a.c\n", "abc\n", False),
    ],
)
def test_an_ellipsis_stands_for_anything(expected: str, output: str, equal: bool) -> None:
    assert console.matches(expected, output) is equal


@pytest.mark.fuse
def test_a_mount_is_taken_away_after_a_failure(base: Path) -> None:
    with pytest.raises(AssertionError):
        _checked(
            base, "```console\n$ artfs init /srv/vol; mkdir /mnt/art; artfs mount /srv/vol /mnt/art\n```\n"
        )
    assert subprocess.run(["mountpoint", "-q", base / "mnt" / "art"], check=False).returncode == 0
