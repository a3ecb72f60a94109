"""Other processes for tests: forked children that run a function, step by step, also as another user.

A child reports what its function returned (anything JSON holds) or the OSError it raised. It ends with
``os._exit``: no fixture, no handler of pytest runs in it. The test process has no threads of Python, so
forking is safe.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import pytest

NOBODY = 65534


def _readable(fd: int, timeout: float) -> bool:
    """Waits for data or the end of a pipe; works for any descriptor number, unlike select(2)."""
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(timeout * 1000))


class Child:
    """A forked process that runs ``function(child)``.

    The function may talk to the test: ``child.say()`` there wakes ``child.heard()`` here, and ``child.go()``
    here lets ``child.pause()`` there return. Leaving the context kills a child that still runs.
    """

    def __init__(
        self,
        function: Callable[[Child], Any],
        *,
        uid: int | None = None,
        gid: int | None = None,
        groups: Sequence[int] = (),
    ) -> None:
        said_read, self._said_write = os.pipe()
        go_read, go_write = os.pipe()
        result_read, result_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12 counts the thread of faulthandler, which takes no locks of Python.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            # Nothing in the child may return into pytest.
            try:
                for fd in (said_read, go_write, result_read):
                    os.close(fd)
                self._pause_fd = go_read
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                faulthandler.disable()  # a test may expect a fatal signal
                if uid is not None:
                    group = uid if gid is None else gid
                    os.setgroups(groups)
                    os.setresgid(group, group, group)
                    os.setresuid(uid, uid, uid)
                os.write(result_write, self._run(function))
            finally:
                os._exit(0)
        for fd in (self._said_write, go_read, result_write):
            os.close(fd)
        self._said, self._go, self._result = said_read, go_write, result_read
        self._ended = False

    def _run(self, function: Callable[[Child], Any]) -> bytes:
        try:
            return json.dumps({"value": function(self)}).encode()
        except OSError as error:
            return json.dumps({"errno": error.errno, "text": str(error)}).encode()
        except BaseException:  # noqa: BLE001  reported to the test
            return json.dumps({"trace": traceback.format_exc()}).encode()

    # Called in the child.

    def say(self) -> None:
        """Wakes the test."""
        os.write(self._said_write, b"!")

    def pause(self) -> None:
        """Waits until the test calls ``go``, or has ended."""
        os.read(self._pause_fd, 1)

    # Called in the test.

    def heard(self, timeout: float = 30.0) -> None:
        """Waits until the child calls ``say``."""
        ready = _readable(self._said, timeout)
        if ready and os.read(self._said, 1):
            return
        pytest.fail(f"the child said nothing: {self.outcome(5) if ready else 'it still runs'}")

    def has_said(self) -> bool:
        """Whether the child has called ``say`` without a ``heard``; its end does not count."""
        ready = _readable(self._said, 0)
        return bool(ready) and not self.is_over()

    def is_over(self) -> bool:
        """Whether the child has ended; its outcome is still available."""
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None

    def go(self) -> None:
        """Lets the child's pause return."""
        os.write(self._go, b"!")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def outcome(self, timeout: float = 60.0) -> dict[str, Any]:
        """Returns the child's report; ``{"signal": N}`` if a signal ended it."""
        parts: list[bytes] = []
        while True:
            ready = _readable(self._result, timeout)
            if not ready:
                pytest.fail(f"the child has not ended after {timeout:g} s")
            part = os.read(self._result, 1 << 16)
            if not part:
                break
            parts.append(part)
        _, status = os.waitpid(self.pid, 0)
        self._ended = True
        if parts:
            outcome: dict[str, Any] = json.loads(b"".join(parts))
            return outcome
        return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None}

    def value(self, timeout: float = 60.0) -> Any:
        """Returns the result of the child's function; an OSError there is raised here."""
        outcome = self.outcome(timeout)
        if "errno" in outcome:
            raise OSError(outcome["errno"], outcome["text"])
        if "value" not in outcome:
            pytest.fail(f"the child failed: {outcome.get('trace', outcome)}")
        return outcome["value"]

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended:
            self.kill()
            os.waitpid(self.pid, 0)
        for fd in (self._said, self._go, self._result):
            os.close(fd)


def in_child(function: Callable[[], Any], **user: Any) -> Any:
    """Runs a function in a child process and returns its result or raises its OSError."""
    with Child(lambda _child: function(), **user) as child:
        return child.value()
