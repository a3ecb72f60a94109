"""Single flight, and the directory of the cache."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artfs.errors import Unreachable
from artfs.references.object_cache import ObjectCache
from artfs.references.single_flight import SingleFlight
from artfs.store import durable
from tests.unit.stores import directory

pytestmark = pytest.mark.usefixtures("no_descriptor_is_left")


def make(path: Path, data: bytes, mode: int = 0o644) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


# ---- shared work ------------------------------------------------------------------------------------------


def together(
    single_flight: SingleFlight[Any, Any],
    count: int,
    action: Callable[[], object],
    release: Callable[[], None],
) -> list[object]:
    """Runs an action in threads, and lets the first continue when all others wait for it."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:  # noqa: BLE001
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while sum(call.users for call in list(single_flight._calls.values())) < count:
        assert time.monotonic() < deadline, results
        time.sleep(0.001)
    release()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(results) == count
    return results


def test_the_last_user_releases_shared_work() -> None:
    released: list[str] = []
    single_flight: SingleFlight[str, str] = SingleFlight(released.append)
    go = threading.Event()
    left: list[int] = []

    def use() -> str:
        with single_flight.share("key", lambda: str(go.wait(10))) as result:
            assert not released
            left.append(1)
            return result

    assert together(single_flight, 4, use, go.set) == ["True"] * 4
    assert (released, len(left), single_flight._calls) == (["True"], 4, {})
    with single_flight.share("key", lambda: "again") as result:  # results are not kept
        assert result == "again"
    assert released == ["True", "again"]


def test_all_callers_get_the_error_of_shared_work() -> None:
    single_flight: SingleFlight[str, str] = SingleFlight()
    go = threading.Event()
    calls: list[int] = []

    def fail() -> str:
        calls.append(1)
        go.wait(10)
        raise Unreachable("s3://b/k", "why")

    def use() -> None:
        with single_flight.share("key", fail):
            pass

    results = together(single_flight, 4, use, go.set)
    assert all(isinstance(result, Unreachable) for result in results)
    assert len(calls) == 1


def test_an_interrupted_worker_leaves_the_work_to_others() -> None:
    single_flight: SingleFlight[str, str] = SingleFlight()
    go = threading.Event()
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        first = len(calls) == 1
        go.wait(10)
        if first:
            raise KeyboardInterrupt
        return "done"

    def use() -> str:
        with single_flight.share("key", work) as result:
            return result

    results = together(single_flight, 4, use, go.set)
    assert sorted(map(type, results), key=str) == [KeyboardInterrupt, str, str, str]


# ---- the cache's directory --------------------------------------------------------------------------------

NAMES = [(b"%x" % digit) * 64 for digit in range(16)]


@pytest.fixture
def cached(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "cache"
    path.mkdir(mode=0o700)
    with directory(path) as fd:
        yield path, fd


def keep(cache: ObjectCache, name: bytes, data: bytes) -> None:
    with cache.incoming(named=True) as incoming:
        durable.write_all(incoming.fd, data)
        cache.keep(incoming, name)
        fd = incoming.reopen()
        assert os.read(fd, 1 << 20) == data
        os.close(fd)


def get(cache: ObjectCache, name: bytes, size: int) -> bytes | None:
    fd = cache.open(name, size)
    if fd is None:
        return None
    data = os.read(fd, 1 << 20)
    os.close(fd)
    return data


def held(path: Path) -> list[str]:
    return sorted(name[0] if len(name) == 64 else name for name in os.listdir(path))


def test_cached_objects_outlive_the_process(cached) -> None:
    path, fd = cached
    cache = ObjectCache(fd, 1000)
    assert get(cache, NAMES[0], 4) is None
    keep(cache, NAMES[0], b"data")
    assert get(cache, NAMES[0], 4) == b"data"
    assert (path / NAMES[0].decode()).stat().st_mode & 0o7777 == 0o600
    cache.close()
    again = ObjectCache(fd, 1000)
    assert get(again, NAMES[0], 4) == b"data"
    assert get(again, NAMES[0], 5) is None  # cut short by a crash
    again.close()
    assert held(path) == ["0"]


def test_uncached_objects_leave_no_file(cached) -> None:
    path, fd = cached
    cache = ObjectCache(fd, 1000)
    for named in (True, False):
        with cache.incoming(named=named) as incoming:
            os.write(incoming.fd, b"data")
            reading = incoming.reopen()
            assert len(os.listdir(path)) == named
        assert os.read(reading, 10) == b"data"
        with pytest.raises(OSError):
            os.write(reading, b"x")
        os.close(reading)
    assert held(path) == []
    cache.close()


def test_without_a_directory_nothing_is_cached(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache = ObjectCache(None, 1000)
    keep(cache, NAMES[0], b"data")
    assert get(cache, NAMES[0], 4) is None
    assert not cache.fits(1)
    assert list(tmp_path.iterdir()) == []
    cache.close()


def test_the_least_recently_used_are_removed(cached) -> None:
    path, fd = cached
    cache = ObjectCache(fd, 1000)
    for name in NAMES[:3]:
        keep(cache, name, bytes(300))
    assert get(cache, NAMES[0], 300)
    keep(cache, NAMES[3], bytes(300))
    assert held(path) == ["0", "2", "3"]
    keep(cache, NAMES[4], bytes(1000))  # never the newest
    assert held(path) == ["4"]
    keep(cache, NAMES[5], bytes(1))
    assert held(path) == ["5"]
    assert cache.fits(1000)
    assert not cache.fits(1001)
    cache.close()


def test_the_limit_applies_after_a_restart(cached) -> None:
    path, fd = cached
    for _ in range(3):
        cache = ObjectCache(fd, 1000)
        for name in NAMES:
            keep(cache, name, bytes(90))
            assert sum(file.stat().st_size for file in path.iterdir()) <= 1000
        cache.close()
    cache = ObjectCache(fd, 300)  # with a smaller limit
    keep(cache, NAMES[0], bytes(90))
    assert sum(file.stat().st_size for file in path.iterdir()) <= 300
    cache.close()


def test_objects_that_other_processes_add_count(cached) -> None:
    path, fd = cached
    one, other = ObjectCache(fd, 1000), ObjectCache(fd, 1000)
    for name, more in zip(NAMES[:8], NAMES[8:], strict=True):
        keep(one, name, bytes(100))
        keep(other, more, bytes(100))
        assert sum(file.stat().st_size for file in path.iterdir()) <= 1000 + 2 * 125
    one.close()
    other.close()


def test_planted_files_are_not_trusted(cached, tmp_path: Path) -> None:
    path, fd = cached
    cache = ObjectCache(fd, 1000)
    evil = make(tmp_path / "evil", b"evil", 0o600)
    for name, plant in enumerate(
        (
            lambda file: file.symlink_to(evil),
            os.mkfifo,
            lambda file: os.link(evil, file),
            lambda file: make(file, b"evil", 0o620),
            lambda file: make(file, b"evil", 0o602),
            lambda file: os.chown(make(file, b"evil"), 65534, 65534) if os.geteuid() == 0 else None,
        )
    ):
        file = path / NAMES[name].decode()
        plant(file)
        assert get(cache, NAMES[name], 4) is None
        keep(cache, NAMES[name], b"good")  # replaces it
        assert get(cache, NAMES[name], 4) == b"good"
        assert stat.S_ISREG(file.lstat().st_mode)
    assert evil.read_bytes() == b"evil"
    blocked = path / NAMES[15].decode()
    (blocked / "x").mkdir(parents=True)
    assert get(cache, NAMES[15], 4) is None
    keep(cache, NAMES[15], b"good")  # is not kept, which is no error
    assert get(cache, NAMES[15], 4) is None
    assert blocked.is_dir()
    cache.close()
    assert not [name for name in os.listdir(path) if name.startswith(".")]


def test_temps_of_dead_processes_are_removed_and_foreign_names_kept(cached, monkeypatch) -> None:
    path, fd = cached
    (path / os.fsdecode(durable.TEMP_PREFIX + b"999999999.x")).write_bytes(b"left")
    (path / "README").write_bytes(bytes(2000))
    monkeypatch.setattr(durable, "STALE_AFTER_SECONDS", -10.0)
    cache = ObjectCache(fd, 1000)
    keep(cache, NAMES[0], b"data")
    assert held(path) == ["0", "README"]
    cache.close()
