"""Tells systemd how a service stands (sd_notify(3)), and makes the unit of a mount.

``notify`` is a datagram to the socket that systemd names; without one it does nothing. ``unit`` is text: who
prints it decides where it goes.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

_SOCKET = "NOTIFY_SOCKET"

_HARDENING = """\
# Nothing here may need a mount namespace of its own (ProtectSystem, ProtectHome, PrivateTmp, PrivateDevices,
# ProtectKernelTunables and their like): nobody else would see the mount. ProtectClock and DevicePolicy would
# close /dev/fuse, RestrictSUIDSGID forbid what chmod may do in a pending version.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictNamespaces=yes
SystemCallArchitectures=native"""

_USER_HARDENING = """\
# The setuid program fusermount3 makes the mount: nothing here may imply NoNewPrivileges, as most hardening
# does."""


def notify(*words: str) -> None:
    """Sends ``READY=1``, ``STATUS=text`` and the like. Never raises."""
    address = os.environ.get(_SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        # "@" stands for the NUL of an abstract address.
        where = "\0" + address[1:] if address[0] == "@" else address
        channel.connect(where)
        channel.send("\n".join(words).encode(errors="surrogateescape"))


def show_status(text: str) -> None:
    """Sends a line that ``systemctl status`` shows."""
    notify(f"STATUS={' '.join(text.split())}")


def unit(program: Sequence[str], options: Sequence[str], volume: Path, directory: Path, *, user: bool) -> str:
    """Returns a unit file that mounts ``volume`` at ``directory`` with ``options`` of ``artfs mount``.

    ``program`` is how artfs is run, with an absolute path. ``user``: for the manager of an ordinary user.
    """
    text = resources.files(__package__).joinpath("artfs.service.in").read_text()
    name = _name(directory)
    words = [*program, "mount", "--foreground", "--supervise", *options, "--", str(volume), str(directory)]
    values = {
        "NAME": name,
        "WHERE": "~/.config/systemd/user" if user else "/etc/systemd/system",
        "SYSTEMCTL": "systemctl --user" if user else "systemctl",
        "VOLUME": _plain(str(volume)),
        "DIRECTORY": _plain(str(directory)),
        "NEEDED": " ".join(_quoted(str(path)) for path in (volume, directory.parent)),
        "COMMAND": " ".join(map(_argument, words)),
        "HARDENING": _USER_HARDENING if user else _HARDENING,
        "TARGET": "default.target" if user else "multi-user.target",
    }
    return re.sub("@([A-Z]+)@", lambda match: values[match[1]], text)


def _name(directory: Path) -> str:
    """A unit's name that says where the mount is, by letters that need no escape in a shell."""
    kept = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in str(directory))
    return f"artfs-{kept.strip('-') or 'root'}"


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("%", "%%")


def _quoted(text: str) -> str:
    """A word of a unit file (systemd.syntax(7)): specifiers and what parts words escaped."""
    escaped = "".join(
        {"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t"}.get(letter, letter) for letter in text
    )
    return f'"{escaped}"' if escaped != text or not _is_simple(text) else text


def _argument(text: str) -> str:
    """The same in a command line, where ``$`` would name a variable."""
    return _quoted(text).replace("$", "$$")


def _is_simple(text: str) -> bool:
    return bool(text) and all(letter.isalnum() or letter in "/._-+=:,@$" for letter in text)
