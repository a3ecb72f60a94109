"""Records what is done to a world, as a script that repeats it.

A failure of a random test on a mount may depend on time and caches, and not recur with the same choices: then
the script remains. It makes the same calls in the same order, without Hypothesis.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import Any

from tests.conformance.driver import OsFile, OsFilesystem, When
from tests.property.worlds import Seat

_SCRIPT = """\
# Run: python SCRIPT MOUNT, from the repository's root; MOUNT is a mounted volume.
import contextlib, mmap, os, sys
from pathlib import Path
from tests.conformance.driver import When
from tests.mount.test_patch_random import MountedWorld
from tests.property.looking import look

world = MountedWorld(Path(sys.argv[1]))
{steps}
"""
_STEP = "with contextlib.suppress(OSError, AssertionError): "


class Recorder:
    """The steps so far, each a line of Python; objects that a step returned are variables."""

    def __init__(self) -> None:
        self._steps: list[str] = []
        self._variables = 0
        self.quiet = False

    def script(self) -> str:
        return _SCRIPT.format(steps="\n".join(self._steps))

    def note(self, step: str, variable: str = "") -> None:
        """Adds a step, unless it is a part of another."""
        if not self.quiet:
            self._steps.append(f"{variable} = {step}" if variable else f"{_STEP}{step}")

    def call(self, step: str, call: Callable[[], Any]) -> Any:
        """Executes one step; records its result too."""
        if self.quiet:
            return call()
        at = len(self._steps)
        try:
            with self.whole():
                made = call()
        except OSError as error:
            self.note(f"{step}  # {errno.errorcode.get(error.errno or 0)}")
            raise
        if isinstance(made, OsFile | OsFilesystem | Seat):
            made, variable = self.adopt(made), f"v{self._variables}"
            self._steps.insert(at, f"{variable} = {step}")
        else:
            self._steps.insert(at, f"{_STEP}{step}")
        return made

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Suppresses the parts of the current step."""
        before, self.quiet = self.quiet, True
        try:
            yield
        finally:
            self.quiet = before

    def adopt(self, what: Any, name: str = "") -> Any:
        """Records every method call of an object."""
        if not isinstance(what, Recorded):
            if not name:
                self._variables += 1
                name = f"v{self._variables}"
            what.__class__ = type(type(what).__name__, (Recorded, type(what)), {})
            what._recorder, what._name = self, name
        return what


class Recorded:
    """An object whose calls are recorded. This class precedes its own class."""

    _recorder: Recorder
    _name: str

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("_") or name in ("listing", "fileno", "path", "cold"):
            return value
        step = f"{self._name}.{name}"
        if isinstance(value, OsFilesystem) and not isinstance(value, Recorded):
            self._recorder.adopt(value)
            self._recorder.note(step, value._name)  # type: ignore[attr-defined]
        if not callable(value):
            return value
        return lambda *arguments, **named: self._recorder.call(
            f"{step}({_written(arguments, named)})", lambda: value(*arguments, **named)
        )


def _written(arguments: tuple[Any, ...], named: dict[str, Any]) -> str:
    return ", ".join([*map(_value, arguments), *(f"{name}={value!r}" for name, value in named.items())])


def _value(value: Any) -> str:
    if isinstance(value, Recorded):
        return value._name
    if isinstance(value, bytes) and len(value) > 20 and len(set(value)) == 1:
        return f"{value[:1]!r} * {len(value)}"
    return str(value) if isinstance(value, When) else repr(value)
