"""Notifies systemd of a service's state (sd_notify(3)), and makes the unit file of a mount.

The packages for sd_notify have had no release since 2020 or need libsystemd; the protocol is one datagram.
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
# No option here may imply a mount namespace (ProtectSystem, ProtectHome, PrivateTmp, PrivateDevices,
# ProtectKernelTunables and the like): no other process would see the mount. ProtectClock and DevicePolicy
# would close /dev/fuse, RestrictSUIDSGID would forbid chmod calls that a pending version allows.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictNamespaces=yes
SystemCallArchitectures=native"""

_USER_HARDENING = """\
# The setuid program fusermount3 makes the mount: no option here may imply NoNewPrivileges, as most hardening
# does."""


def notify(*words: str) -> None:
    """Sends ``READY=1``, ``STATUS=text`` and the like; does nothing outside a service. Never raises."""
    address = os.environ.get(_SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        # "@" means the NUL of an abstract address.
        channel.connect("\0" + address[1:] if address[0] == "@" else address)
        channel.send("\n".join(words).encode(errors="surrogateescape"))


def show_status(text: str) -> None:
    """Sends a line that ``systemctl status`` shows."""
    notify(f"STATUS={' '.join(text.split())}")


def unit(program: Sequence[str], options: Sequence[str], volume: Path, directory: Path, *, user: bool) -> str:
    """Returns a unit file that mounts ``volume`` at ``directory`` with ``options`` of ``artfs mount``.

    ``program`` is the command that runs artfs, with an absolute path. ``user`` makes it a unit for
    ``systemctl --user``.
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
    """Returns a unit name made of the mount's path, in characters that a shell does not interpret."""
    kept = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in str(directory))
    return f"artfs-{kept.strip('-') or 'root'}"


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("%", "%%")


def _quoted(text: str) -> str:
    """Returns a word of a unit file (systemd.syntax(7)), with specifiers and separators escaped."""
    escaped = "".join(
        {"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t"}.get(letter, letter) for letter in text
    )
    return f'"{escaped}"' if escaped != text or not _is_simple(text) else text


def _argument(text: str) -> str:
    """Returns a word of a command line, in which ``$`` would name a variable."""
    return _quoted(text).replace("$", "$$")


def _is_simple(text: str) -> bool:
    return bool(text) and all(letter.isalnum() or letter in "/._-+=:,@$" for letter in text)
