"""The handshake: the flags of a mount, the requests they save, and mounts without it."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from artfs.fuse import handshake
from artfs.linux import mountinfo
from tests.mount.tiny_mounts import TinyMounts, as_nobody, tiny

__all__ = ["tiny"]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")


def init_request(flags: int, *, major: int = 7, minor: int = 45, opcode: int = 26) -> bytes:
    """Makes an INIT request as the kernel sends it (fuse(4), linux/fuse.h), with unique 2."""
    body = struct.pack("=IIII", major, minor, 131072, flags) + bytes(48)
    return struct.pack("=IIQQIIIHH", 40 + len(body), opcode, 2, 0, 0, 0, 0, 0, 0) + body


def through_a_pipe(request: bytes) -> bytes:
    ours, theirs = os.pipe()
    try:
        os.write(theirs, request)
        return handshake._read_init(ours)
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_answer_has_the_flags_that_both_sides_know():
    reply, flags = handshake._reply(init_request(0xFFFFFFFF), handshake.Options())
    length, error, unique = struct.unpack_from("=IiQ", reply)
    assert (length, error, unique) == (len(reply), 0, 2)
    assert len(reply) == 16 + 64
    major, minor, readahead, sent = struct.unpack_from("=IIII", reply, 16)
    background, congestion, max_write, granularity, pages = struct.unpack_from("=HHIIH", reply, 32)
    assert (major, readahead, granularity) == (7, 131072, 1)
    assert minor <= 38
    assert sent == flags == handshake.Options().flags
    assert max_write == 1024 * 1024 == pages * os.sysconf("SC_PAGE_SIZE")
    assert 0 < congestion <= background


def test_a_kernel_without_max_pages_gets_a_smaller_max_write():
    reply, flags = handshake._reply(init_request(handshake.ASYNC_READ), handshake.Options())
    _, _, max_write, _, pages = struct.unpack_from("=HHIIH", reply, 32)
    assert flags == handshake.ASYNC_READ
    assert (max_write, pages) == (128 * 1024, 0)


@pytest.mark.parametrize("write_cache", [False, True])
def test_the_kernel_caches_writes_only_with_write_cache(write_cache):
    flags = handshake.Options(write_cache=write_cache).flags
    assert bool(flags & handshake.WRITEBACK_CACHE) == write_cache


def test_an_init_request_is_read_whole():
    request = init_request(1)
    assert through_a_pipe(request) == request


@pytest.mark.parametrize(
    "request_", [init_request(1, opcode=1), init_request(1, major=8), init_request(1, minor=22), bytes(20)]
)
def test_an_unknown_first_request_is_refused(request_):
    with pytest.raises(ValueError, match="kernel"):
        through_a_pipe(request_)


def test_options_escape_special_characters():
    options = handshake.Options(source="/a,b\\c é")
    assert "fsname=/a\\,b\\\\c é" in handshake._helper_options(options)
    assert "fsname=artfs" in handshake._plain_options(options)


@pytest.mark.fuse
class TestMount:
    def test_the_mount_has_the_flags(self, tiny: TinyMounts):
        tiny.start()
        flags = tiny.facts()["flags"]
        for wanted in (handshake.HANDLE_KILLPRIV_V2, handshake.PARALLEL_DIROPS, handshake.MAX_PAGES):
            assert flags & wanted
        assert not flags & (handshake.AUTO_INVAL_DATA | handshake.ASYNC_DIO | handshake.WRITEBACK_CACHE)

    def test_the_mount_table_names_type_and_volume(self, tiny: TinyMounts):
        tiny.start()
        mount = mountinfo.at(tiny.point)
        assert mount is not None
        assert (mount.type, mount.source) == ("fuse.artfs", str(tiny.volume))
        assert os.statvfs(tiny.point).f_flag & (os.ST_NOSUID | os.ST_NODEV) == os.ST_NOSUID | os.ST_NODEV

    def test_writes_need_no_getxattr(self, tiny: TinyMounts):
        tiny.start()
        with open(tiny.point / "file", "wb", buffering=0) as file:
            for _ in range(50):
                os.write(file.fileno(), b"x" * 10)
        counts = tiny.facts()["counts"]
        assert counts["write"] == 50
        assert counts.get("getxattr", 0) <= 1  # the first write of a file that is new to the kernel

    def test_a_large_write_is_one_request(self, tiny: TinyMounts):
        tiny.start()
        # Not zeros: Linux ends the request at an untouched page of the caller.
        (tiny.point / "file").write_bytes(b"x" * (3 * 1024 * 1024))
        facts = tiny.facts()
        assert facts["largest_write"] == 1024 * 1024
        assert facts["counts"]["write"] == 3

    def test_directories_are_listed_by_readdirplus_alone(self, tiny: TinyMounts):
        # pyfuse3 would answer a plain READDIR with ENOSYS.
        names = {f"file-{number:04}" for number in range(700)}
        for name in names:
            (tiny.volume / "files" / name).touch()
        tiny.start()
        for _ in range(5):
            assert set(os.listdir(tiny.point)) == names
        subprocess.run(["ls", "-f", str(tiny.point)], check=True, stdout=subprocess.DEVNULL)
        assert tiny.facts()["counts"]["readdirplus"] >= 6

    @root_only
    def test_another_users_write_clears_setuid(self, tiny: TinyMounts):
        tiny.start("allow-other")
        path = tiny.point / "program"
        path.write_bytes(b"one")
        path.chmod(0o4777)
        assert path.stat().st_mode & stat.S_ISUID
        done = as_nobody("sh", "-c", f"printf two > {path}")
        assert done.returncode == 0, done.stderr
        assert path.read_bytes() == b"two"
        assert not path.stat().st_mode & stat.S_ISUID

    def test_without_the_handshake_pyfuse3_mounts(self, tiny: TinyMounts):
        tiny.start("plain")
        assert "libfuse does" in tiny.log
        assert tiny.facts()["flags"] is None
        mount = mountinfo.at(tiny.point)
        assert mount is not None
        assert mount.type == "fuse.artfs"
        (tiny.point / "file").write_text("content")
        assert (tiny.point / "file").read_text() == "content"

    @root_only
    @pytest.mark.parametrize("options", [[], ["plain"]])
    def test_an_ordinary_user_mounts_through_fusermount3(self, tiny: TinyMounts, options: list[str]):
        for path in (tiny.point, tiny.volume, *tiny.volume.iterdir()):
            os.chown(path, 65534, 65534)
        done = subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", _AS_AN_ORDINARY_USER, "sh"),
                *(sys.executable, "-m", "tests.mount.tiny", str(tiny.volume), str(tiny.point), *options),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["content", "fuse.artfs"], done.stderr
        assert ("libfuse does" in done.stderr) == bool(options)


# As on most machines, all users may open the device, but only in this mount namespace. The capability lets
# the user read an interpreter in another user's home; it does not permit mounting.
_AS_AN_ORDINARY_USER = """
set -e
umask 0
user="setpriv --reuid 65534 --regid 65534 --clear-groups"
volume=$4 point=$5
mount -t tmpfs none /run
mknod -m 666 /run/fuse c 10 229
mount --bind /run/fuse /dev/fuse
$user --inh-caps +dac_read_search --ambient-caps +dac_read_search env PYTHONDONTWRITEBYTECODE=1 "$@" &
daemon=$!
tries=0
until grep -qF " $point " /proc/self/mounts; do
    tries=$((tries + 1)); [ $tries -lt 300 ]; sleep 0.1
done
$user sh -c "echo content > $point/file; cat $point/file"
grep -F " $point " /proc/self/mounts | cut -d ' ' -f 3
kill -TERM $daemon
wait $daemon
! grep -F " $point " /proc/self/mounts
"""
