"""Common tools on a pending tree and on its version."""

from __future__ import annotations

import compileall
import os
import shutil
import sqlite3
import subprocess
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.conformance.helpers import OLD
from tests.conformance.processes import Child
from tests.local_server import LocalServer, Quiet
from tests.mount.control import command, finish, snapshot

pytestmark = pytest.mark.fuse

GIT = ("git", "-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "safe.directory=*")


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """Runs a tool that must succeed; skips the test if it is not installed."""
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"{words[0]} is not installed")
    # The user's configuration must not change a tool's behaviour.
    environment = {**os.environ, "LC_ALL": "C", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An ordinary directory with entries of many kinds."""
    root = tmp_path / "source"
    (root / "dir" / "deeper").mkdir(parents=True)
    (root / "empty").mkdir()
    for number in range(100):
        path = root / "dir" / f"file {number}"
        path.write_bytes(os.urandom(number * 97))
    (root / "dir" / "deeper" / "script").write_text("#!/bin/sh\nexit 0\n")
    os.chmod(root / "dir" / "deeper" / "script", 0o750)
    (root / "large").write_bytes(os.urandom(2 << 20))
    os.symlink("dir/deeper", root / "link")
    os.symlink("nowhere", root / "dangling")
    os.link(root / "large", root / "dir" / "hard")
    with open(root / "sparse", "wb") as file:
        file.truncate(10 << 20)
    os.setxattr(root / "large", "user.note", b"kept")
    os.chmod(root / "dir" / "deeper", 0o700)
    # Old times: rsync does not update a time of the same second.
    for number, path in enumerate([*sorted(root.rglob("*"), reverse=True), root]):
        os.utime(path, ns=(1, 1_400_000_000_123_456_789 + number * 10**9), follow_symlinks=False)
    return root


def test_cp_a_copies_in_and_out(model: Path, job: Path, source: Path, tmp_path: Path) -> None:
    run("cp", "-aT", source, job)
    assert snapshot(job) == snapshot(source)
    assert os.stat(job / "large").st_nlink == 2
    finish(job)
    assert snapshot(model / "v0") == snapshot(source)
    run("cp", "-aT", model / "v0", tmp_path / "copy")
    assert snapshot(tmp_path / "copy") == snapshot(source)
    run("diff", "-r", "--no-dereference", source, model / "v0")


def test_cp_keeps_files_sparse(job: Path, source: Path) -> None:
    run("cp", "-a", source / "sparse", job)
    run("cp", "--sparse=always", source / "sparse", job / "again")
    assert os.stat(job / "again").st_size == 10 << 20
    assert os.stat(job / "again").st_blocks * 512 < 1 << 20


def test_tar_packs_and_unpacks(model: Path, job: Path, source: Path, tmp_path: Path) -> None:
    run("tar", "--format=posix", "--xattrs", "-C", source, "-cf", tmp_path / "in.tar", ".")
    run("tar", "--xattrs", "--xattrs-include=user.*", "-C", job, "-xpf", tmp_path / "in.tar")
    assert snapshot(job) == snapshot(source)
    run("tar", "--format=posix", "-C", job, "-cf", job / "own.tar", "--exclude=./own.tar", ".")
    run("mv", job / "own.tar", tmp_path / "out.tar")
    names = run("tar", "-tf", tmp_path / "out.tar").splitlines()
    assert not [name for name in names if ".artfs" in name]
    assert len(names) == len(snapshot(source))
    finish(job)
    # A version has no hard links: each name is a separate file.
    run("tar", "--hard-dereference", "-C", source, "-cf", tmp_path / "compare.tar", ".")
    run("tar", "-C", model / "v0", "-df", tmp_path / "compare.tar")


def test_a_second_rsync_copies_nothing(model: Path, job: Path, source: Path) -> None:
    first = run("rsync", "-aHX", "--itemize-changes", f"{source}/", f"{job}/")
    assert len(first.splitlines()) > 100
    assert run("rsync", "-aHX", "--itemize-changes", f"{source}/", f"{job}/") == ""
    (job / "surplus").write_text("not in the source")
    (source / "dir" / "file 7").write_text("changed")
    changes = run("rsync", "-aHX", "--delete", "--itemize-changes", f"{source}/", f"{job}/").splitlines()
    assert [line.split(maxsplit=1)[1] for line in changes if "file" in line or "deleting" in line] == [
        "surplus",
        "dir/file 7",
    ]
    run("rsync", "-a", "--inplace", "--append-verify", f"{source}/", f"{job}/")
    finish(job)
    assert (
        run("rsync", "-aXn", "--checksum", "--delete", "--itemize-changes", f"{source}/", f"{model}/v0/")
        == ""
    )


def test_preallocating_tools_work(model: Path, job: Path, source: Path) -> None:
    run("rsync", "-a", "--preallocate", f"{source}/large", job / "by rsync")
    run("fallocate", "--posix", "--length", "100000", job / "by fallocate")
    with sqlite3.connect(job / "by sqlite") as database:
        database.execute("PRAGMA page_size = 4096")
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (zeroblob(1000000))")
    database.close()
    finish(job)
    assert (model / "v0" / "by rsync").read_bytes() == (source / "large").read_bytes()
    assert (model / "v0" / "by fallocate").read_bytes() == bytes(100_000)


class Same(Quiet, BaseHTTPRequestHandler):
    """Serves the same bytes under each path."""

    content = bytes(range(256)) * 8192

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)


@pytest.mark.parametrize("way", ["none", "prealloc", "trunc"])
def test_aria2_works_with_file_allocations(job: Path, way: str) -> None:
    """All methods but ``falloc``, which needs fallocate(2)."""
    server = LocalServer(Same)
    try:
        run(
            *("aria2c", "--quiet", "--no-conf", "--no-file-allocation-limit=1K", f"--file-allocation={way}"),
            *("--dir", job, "--out", "got", f"{server.base}/file"),
        )
    finally:
        server.close()
    assert (job / "got").read_bytes() == Same.content


def test_names_like_those_of_artfs_are_ordinary(model: Path, job: Path, tmp_path: Path) -> None:
    """rsync's temps are ``.NAME.XXXXXX``, vim's swap files ``.NAME.swp``; repositories have such files."""
    source = tmp_path / "source"
    (source / ".artfs-gone").mkdir(parents=True)
    names = ("artfs", "artfs.json", "artfs-lower", ".artfsignore", ".artfs-lower", ".artfs-gone/.artfs-base")
    for name in names:
        (source / name).write_text(name)
    for path in (*source.rglob("*"), source):
        os.utime(path, ns=(OLD, OLD))  # rsync does not update a time of the same second
    run("rsync", "-a", f"{source}/", f"{job}/")
    assert snapshot(job) == snapshot(source)
    run("git", "init", "-q", job / "repository")
    for name in ("artfs.json", ".artfsignore", ".artfs-lower"):
        shutil.copy(source / name, job / "repository" / name)
    run(*GIT, "add", "--all", cwd=job / "repository")
    run(*GIT, "commit", "-qm", "names", cwd=job / "repository")
    run(*GIT, "clone", "-q", job / "repository", job / "clone")
    assert run(*GIT, "status", "--porcelain", cwd=job / "clone") == ""
    for number in range(2):  # as an editor: a swap file, then a new file over the old one
        swap = job / ".artfs.json.swp"
        with swap.open("x") as file:
            file.write("swap")
        (job / ".artfs.json~").write_text(f"edited {number}")
        (job / ".artfs.json~").rename(job / "artfs.json")
        swap.unlink()
    before = snapshot(job)
    finish(job)
    assert snapshot(model / "v0") == before
    patch = model / "pending" / "patch"
    patch.mkdir()
    command(patch, "base", "v0")
    base = snapshot(patch)
    assert base | {b"": before[b""]} == before  # the root's time differs
    for name in (".artfs-lower", ".artfs-gone", ".artfs-base", "clone"):
        path = patch / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_text("in the patch")
    run("rsync", "-a", f"{source}/", f"{patch}/repository/")
    after = snapshot(patch)
    finish(patch)
    assert snapshot(model / "v1") == after


def test_rsync_copies_out_of_a_version(model: Path, job: Path, source: Path, tmp_path: Path) -> None:
    run("cp", "-aT", source, job)
    finish(job)
    run("rsync", "-aX", f"{model}/latest/", tmp_path / "copy")
    assert snapshot(tmp_path / "copy") == snapshot(source)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository of some commits."""
    path = tmp_path / "repository"
    run("git", "init", "-q", "-b", "main", path)
    for number in range(5):
        for index in range(20):
            (path / f"file-{index}").write_text(f"{number} {index}\n" * 50)
        run("git", "add", ".", cwd=path)
        run(
            *GIT,
            "commit",
            "-q",
            "-m",
            str(number),
            cwd=path,
        )
    return path


def test_a_git_clone_works(model: Path, job: Path, repository: Path) -> None:
    clone = job / "clone"
    run("git", "clone", "-q", "--no-local", repository, clone)
    run(*GIT, "fsck", "--full", "--strict", cwd=clone)
    assert run(*GIT, "status", "--porcelain", cwd=clone) == ""
    (clone / "file-3").write_text("changed\n")
    (clone / "new").write_text("new\n")
    run(*GIT, "add", "-A", cwd=clone)
    run(*GIT, "commit", "-q", "-m", "inside the mount", cwd=clone)
    run(*GIT, "checkout", "-q", "-b", "other", "HEAD~2", cwd=clone)
    run(*GIT, "merge", "-q", "main", cwd=clone)
    run(*GIT, "gc", "-q", "--prune=now", cwd=clone)
    run(*GIT, "fsck", "--full", cwd=clone)
    head = run(*GIT, "rev-parse", "HEAD", cwd=clone)
    finish(job)
    sealed = model / "v0" / "clone"
    run(*GIT, "--no-optional-locks", "fsck", "--full", cwd=sealed)
    assert run(*GIT, "rev-parse", "HEAD", cwd=sealed) == head
    assert run(*GIT, "--no-optional-locks", "status", "--porcelain", cwd=sealed) == ""


def test_git_init_and_pull_work(job: Path, repository: Path) -> None:
    run("git", "init", "-q", job)
    run(*GIT, "pull", "-q", repository, "main", cwd=job)
    assert run(*GIT, "status", "--porcelain", cwd=job) == ""


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_sqlite_works_with_concurrent_writers(model: Path, job: Path, mode: str) -> None:
    path = job / "data.db"
    connection = sqlite3.connect(path)
    assert connection.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
    connection.execute("create table entries (writer integer, number integer, text text)")
    connection.commit()
    connection.close()

    def write(writer: int, _child: Child) -> None:
        own = sqlite3.connect(path, timeout=100)
        for number in range(25):
            with own:
                own.execute("insert into entries values (?, ?, ?)", (writer, number, "x" * 500))
            own.execute("select count(*) from entries").fetchone()
        own.close()

    children = [Child(partial(write, writer)) for writer in range(3)]
    try:
        for child in children:
            child.value()
    finally:
        for child in children:
            child.__exit__(None, None, None)

    query = "select count(*), count(distinct writer * 1000 + number), sum(length(text)) from entries"
    connection = sqlite3.connect(path)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert connection.execute(query).fetchone() == (75, 75, 75 * 500)
    if mode == "wal":
        connection.execute("pragma journal_mode=delete")
    connection.close()
    finish(job)
    sealed = sqlite3.connect(f"file:{model}/v0/data.db?immutable=1", uri=True)
    assert sealed.execute(query).fetchone() == (75, 75, 75 * 500)
    sealed.close()


def test_a_crashed_sqlite_writer_is_rolled_back(job: Path) -> None:
    path = job / "data.db"
    connection = sqlite3.connect(path)
    connection.execute("create table entries (number integer)")
    connection.execute("insert into entries values (1)")
    connection.commit()
    connection.close()

    def crash(child: Child) -> None:
        own = sqlite3.connect(path)
        own.execute("pragma cache_size=5")
        own.execute("update entries set number = 2")
        own.executemany("insert into entries values (?)", [(number,) for number in range(20_000)])
        child.say()
        child.pause()

    with Child(crash) as child:
        child.heard()
        assert (job / "data.db-journal").exists()
        child.kill()
        child.outcome()
    connection = sqlite3.connect(path)
    assert connection.execute("select * from entries").fetchall() == [(1,)]
    connection.close()


def test_small_tools_work(job: Path) -> None:
    script = """
    set -e
    printf 'one\\ntwo\\nthree\\n' > text
    sed -i s/two/2/ text
    test "$(cat text)" = "one
2
three"
    sort -o text text
    cp text copy && cmp text copy
    install -D -m 750 text sub/dir/installed
    test "$(stat -c %a sub/dir/installed)" = 750
    truncate -s 100 copy && test "$(stat -c %s copy)" = 100
    dd if=/dev/zero of=blocks bs=4k count=10 seek=2 conv=notrunc status=none
    test "$(stat -c %s blocks)" = 49152
    touch -d '2001-02-03 04:05:06.789 UTC' old && test "$(stat -c %Y old)" = 981173106
    ln old hard && test "$(stat -c %h old)" = 2
    mkdir -p a/b/c && touch a/b/c/d && mv a z && test -e z/b/c/d
    cp -r z y && cp -al z x && test "$(stat -c %h x/b/c/d)" = 2
    rm -r x y z
    echo more | tee -a text > /dev/null
    test "$(wc -l < text)" = 4
    split -n 2 text part. && cat part.* | cmp - text
    gzip -k text && gunzip -c text.gz | cmp - text
    find . -type f -newer old | grep -q ./text
    du -s . > /dev/null && df . > /dev/null && ls -laR . > /dev/null
    test "$(ls -A)" = "$(find . -mindepth 1 -maxdepth 1 -printf '%f\\n' | sort)"
    chmod -R u+rwX,go= . && test "$(stat -c %a text)" = 600
    """
    run("bash", "-c", script, cwd=job)


def test_flock_excludes_processes(job: Path) -> None:
    script = """
    for i in 1 2 3 4; do
        (for j in 1 2 3 4 5; do flock counter sh -c 'n=$(cat counter); echo $((n + 1)) > counter'; done) &
    done
    wait
    """
    (job / "counter").write_text("0\n")
    run("flock", "--version")
    run("bash", "-c", script, cwd=job)
    assert (job / "counter").read_text() == "20\n"


def test_python_writes_its_bytecode(job: Path) -> None:
    package = job / "package"
    package.mkdir()
    for number in range(5):
        (package / f"module_{number}.py").write_text(f"VALUE = {number}\n")
    assert compileall.compile_dir(package, quiet=2)
    assert len(os.listdir(package / "__pycache__")) == 5


def test_shutil_archives_work(model: Path, job: Path, source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, job / "tree", symlinks=True)
    archive = shutil.make_archive(str(job / "archive"), "zip", job / "tree")
    shutil.unpack_archive(archive, job / "unpacked")
    assert (job / "unpacked" / "large").read_bytes() == (source / "large").read_bytes()
    shutil.rmtree(job / "unpacked")
    finish(job)
    shutil.copytree(model / "v0" / "tree", tmp_path / "out", symlinks=True)
    assert snapshot(tmp_path / "out") == snapshot(source)
