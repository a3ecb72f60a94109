"""Runs commands of artfs in processes that are forked from one which has artfs imported.

An interpreter takes 0.2 s of CPU time to import what a command needs, and 0.4 s for a daemon; a fork takes a
tenth of that. All else is as with ``python -m artfs``: a process, its exit status, what it prints. The daemon
that a command starts is forked too.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from typing import Any

import artfs.client.direct.direct_client
import artfs.client.mounted.mounted_client
import artfs.daemon.serve  # noqa: F401
from artfs.cli.main import run as run_artfs
from artfs.daemon import background

_MAIN = os.getpid()
_launch_supervisor = background.launch


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def is_possible() -> bool:
    """Whether this is pytest's own process. What it forked may be another user, or in another namespace."""
    return os.getpid() == _MAIN


def run(
    arguments: Sequence[str], environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Runs ``artfs ARGUMENTS`` to its end, with nothing to read."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        place = os.getcwd(), _umask()
        process = _Command(arguments, environment, place, out.fileno(), err.fileno())
        process.start()
        process.join(timeout)
        printed = []
        for stream in (out, err):
            stream.seek(0)
            printed.append(stream.read().decode())
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout, *printed)
        status = process.exitcode
        process.close()
    return subprocess.CompletedProcess(list(arguments), status, *printed)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class _Command(_context().Process):  # type: ignore[misc]
    """A process that runs a command."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], place: tuple[str, int], *streams: int
    ) -> None:
        super().__init__()
        self._given = list(arguments), dict(environment), place
        self._streams: Sequence[Any] = streams

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_streams": [DupFd(fd) for fd in self._streams]}

    def run(self) -> None:
        arguments, environment, (directory, mask) = self._given
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(directory)
        os.umask(mask)
        for number, stream in enumerate(self._streams, 1):
            os.dup2(fd := stream.detach(), number)
            os.close(fd)
        background.launch = _launch  # type: ignore[assignment]
        sys.exit(_run(arguments))


def _run(arguments: Sequence[str]) -> int:
    sys.argv[:] = ["artfs", *arguments]
    return run_artfs(arguments)


def _launch(command: Sequence[str], **how: Any) -> tuple[subprocess.Popen[bytes] | _Forked, int]:
    """Stands for :func:`background.launch`. A supervisor is too small to be forked from what has pyfuse3."""
    if "--supervise" in command:
        return _launch_supervisor(command, **how)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _become_daemon(theirs, how["stderr"].fileno())
            status = _run(command[len(background.PROGRAM) :])
            threading._shutdown()  # type: ignore[attr-defined]
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(theirs)
    return _Forked(pid), ours


def _become_daemon(pipe: int, log: int) -> None:
    """Leaves the session, all descriptors but the log and the pipe, and its standard input and output."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, target in enumerate((nothing, nothing, log)):
        os.dup2(target, number)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
    os.environ[background._VARIABLE] = str(pipe)


class _Forked:
    """What a daemon's :class:`subprocess.Popen` is asked for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode = 0

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
