"""systemd-unit prints a unit that systemd accepts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.mount.mounting import artfs, must


def _setting(unit: str, name: str) -> str:
    [line] = [line for line in unit.splitlines() if line.startswith(f"{name}=")]
    return line.partition("=")[2]


def test_the_mount_is_supervised_and_reports_when_it_is_ready() -> None:
    unit = must("systemd-unit", "/srv/vol", "/mnt/art", "--", "--references", "file,artfs")
    command = _setting(unit, "ExecStart")
    assert command.startswith("/")
    assert command.endswith(" mount --foreground --supervise --references file,artfs -- /srv/vol /mnt/art")
    assert _setting(unit, "Type") == "notify"
    assert _setting(unit, "RequiresMountsFor") == "/srv/vol /mnt"
    assert "/etc/systemd/system/artfs-mnt-art.service" in unit
    assert _setting(unit, "NoNewPrivileges") == "yes"
    # Each of these gives the service a mount namespace of its own, which would hide the mount.
    settings = [line for line in unit.splitlines() if not line.startswith("#")]
    assert not [
        line for line in settings if line.startswith(("Private", "Protect", "ReadOnly", "Inaccessible"))
    ]


def test_a_user_unit_lets_fusermount3_work() -> None:
    unit = must("systemd-unit", "--user", "/srv/vol", "/mnt/art")
    assert "\nNoNewPrivileges" not in unit
    assert "\nRestrict" not in unit
    assert _setting(unit, "WantedBy") == "default.target"


def test_words_are_escaped() -> None:
    unit = must("systemd-unit", "/srv/a vol", '/mnt/"%i"$x\\y')
    assert _setting(unit, "ExecStart").endswith(r' -- "/srv/a vol" "/mnt/\"%%i\"$$x\\y"')
    assert _setting(unit, "RequiresMountsFor") == '"/srv/a vol" /mnt'


def test_a_wrong_option_is_refused_at_once() -> None:
    done = artfs("systemd-unit", "/srv/vol", "/mnt/art", "--", "--nonsense")
    assert done.returncode == 2
    assert "--nonsense" in done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("user", [False, True])
def test_systemd_accepts_the_unit(tmp_path: Path, user: bool) -> None:
    who = ["--user"] if user else []
    unit = tmp_path / "artfs-test.service"
    unit.write_text(must("systemd-unit", *who, "/srv/a vol", "/mnt/100%"))
    done = subprocess.run(
        ["systemd-analyze", *who, "verify", unit],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
