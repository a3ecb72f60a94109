"""A daemon in the background: the command that starts it returns once the mount answers, or reports why not.

Owns the pipe between the two processes. ``start`` runs in the command's process, ``reporting`` in the
daemon's.

The daemon is the same program in the foreground, in a session of its own. It finds the pipe's descriptor in
its environment, and writes one line to it: ``ready``, or ``error`` and the reason.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from artfs.errors import ArtfsError, MountError

#: ``-P``: by itself ``-m`` would import modules from the working directory, which may belong to another user.
PROGRAM = (sys.executable, "-P", "-m", "artfs")

_VARIABLE = "ARTFS_READY_FD"
READY = b"ready"
_ERROR = b"error "
_LOG_LIMIT = 16 * 1024 * 1024


def start(arguments: Sequence[str], log_file: Path, *, program: Sequence[str] = PROGRAM) -> int:
    """Starts ``artfs ARGUMENTS`` as a daemon and waits until it is ready; returns its pid.

    The arguments are those of a mount in the foreground. The daemon's messages are appended to ``log_file``.

    Raises:
        MountError: it ended before it was ready; the text is the reason that it reported.
    """
    with open(_opened(log_file), "ab") as messages:
        logged_before = messages.tell()
        daemon, answers = launch(
            [*program, *arguments], stdout=subprocess.DEVNULL, stderr=messages, start_new_session=True
        )
    with open(answers, "rb") as lines:
        try:
            answer = lines.readline().strip()
            if answer == READY:
                daemon.returncode = 0  # it goes on alone: Popen must not warn
                return daemon.pid
            status = daemon.wait()
        except BaseException:
            daemon.terminate()
            raise
    raise MountError(
        refusal(answer)
        or _last_words(log_file, logged_before)
        or f"the daemon ended with status {status}; see {log_file}"
    )


def launch(command: Sequence[str], **how: Any) -> tuple[subprocess.Popen[bytes], int]:
    """Starts a daemon; returns it, and the end of the pipe from which its line is read."""
    ours, theirs = os.pipe()
    environment = how.pop("env", os.environ)
    try:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs],
            env={**environment, _VARIABLE: str(theirs)},
            **how,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return daemon, ours


def refusal(answer: bytes) -> str:
    """Returns the reason in a daemon's line; empty if it has none."""
    return answer[len(_ERROR) :].decode(errors="replace").strip() if answer.startswith(_ERROR) else ""


def _opened(log_file: Path) -> int:
    """Opens the log for appending. It follows no link: root may mount another user's volume."""
    above = -1
    try:
        above = os.open(log_file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(log_file.name, dir_fd=above, follow_symlinks=False).st_size > _LOG_LIMIT:
                os.rename(log_file.name, f"{log_file.name}.old", src_dir_fd=above, dst_dir_fd=above)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(log_file.name, flags, 0o666, dir_fd=above)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise MountError(f"{log_file} is not a regular file: remove it")
        return fd
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR):
            raise MountError(f"{log_file} is not a regular file in a directory: remove it") from None
        raise
    finally:
        if above >= 0:
            os.close(above)


class StartReport:
    """The daemon's end of the pipe. Without a parent that reads it does nothing."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def ready(self) -> None:
        """Reports that the mount answers. A daemon in the background then leaves its working directory."""
        if self._fd is not None:
            os.chdir("/")
            self._write(READY)

    def failed(self, error: Exception) -> None:
        """Reports why there is no mount."""
        self._write(_ERROR + " ".join(str(error).split()).encode(errors="replace"))

    def _write(self, line: bytes) -> None:
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with contextlib.suppress(OSError):  # the parent may have been killed
            os.write(fd, line + b"\n")
        os.close(fd)


@contextlib.contextmanager
def reporting() -> Iterator[StartReport]:
    """Yields the report to a parent; errors of artfs and the system are reported, and raised again."""
    fd = os.environ.pop(_VARIABLE, None)
    report = StartReport(int(fd) if fd else None)
    if fd:
        os.set_inheritable(int(fd), False)
    try:
        yield report
    except (ArtfsError, OSError) as error:
        report.failed(error)
        raise


def _last_words(log_file: Path, start: int) -> str:
    with open(log_file, "rb") as messages:
        messages.seek(start)
        lines = messages.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
