"""Fifos, sockets, devices, and the filesystem as a whole."""

from __future__ import annotations

import errno
import os
import socket
import stat

import pytest

from tests.conformance.driver import Filesystem, OsFilesystem
from tests.conformance.helpers import exists, fails, write
from tests.conformance.processes import Child


@pytest.mark.real
def test_a_fifo_carries_bytes_between_processes(fs: OsFilesystem) -> None:
    os.mkfifo(fs.path(b"fifo"), 0o600)

    def send(_child: Child) -> None:
        fd = os.open(fs.path(b"fifo"), os.O_WRONLY)
        os.write(fd, b"through the fifo")
        os.close(fd)

    with Child(send) as child:
        with fs.open(b"fifo", os.O_RDONLY) as fifo:
            received = b""
            while part := os.read(fifo.fileno(), 100):
                received += part
        child.value()
    assert received == b"through the fifo"
    assert fs.stat(b"fifo").size == 0


@pytest.mark.real
def test_a_unix_socket_works(fs: OsFilesystem) -> None:
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(fs.path())  # a socket's path has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("socket")
            assert fs.stat(b"socket").kind == stat.S_IFSOCK
            with fails(errno.EADDRINUSE), socket.socket(socket.AF_UNIX) as second:
                second.bind("socket")
            server.listen()
            client.connect("socket")
            connection, _ = server.accept()
            with connection:
                client.sendall(b"hello")
                assert connection.recv(100) == b"hello"
    finally:
        os.chdir(here)
        os.close(here)
    fs.unlink(b"socket")
    assert fs.listdir(b"") == []


@pytest.mark.artfs_only
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_device_nodes_are_refused(fs: Filesystem, kind: int) -> None:
    with fails(errno.EPERM):
        fs.mknod(b"device", kind | 0o600, os.makedev(1, 3))
    assert not exists(fs, b"device")


@pytest.mark.real
def test_fstat_returns_a_sensible_block_size(fs: OsFilesystem) -> None:
    write(fs, b"file", b"data")
    status = os.stat(fs.path(b"file"))
    assert status.st_blksize >= 4096
    assert status.st_blksize & (status.st_blksize - 1) == 0


@pytest.mark.real
def test_all_nodes_of_a_tree_are_on_one_device(fs: OsFilesystem) -> None:
    """find -xdev, du -x and rsync -x stop at another device."""
    fs.mkdir(b"dir")
    write(fs, b"dir/file")
    fs.symlink(b"x", b"dir/link")
    devices = {os.lstat(fs.path(name)).st_dev for name in (b"", b"dir", b"dir/file", b"dir/link")}
    assert len(devices) == 1
