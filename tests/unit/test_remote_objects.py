"""References to servers: http on this machine, object stores in memory, and their failures."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import obstore
import obstore.exceptions
import pytest
from obstore.store import LocalStore, MemoryStore

from artfs.errors import Changed, InvalidCommand, RemoteMissing, Unreachable
from artfs.model.digest import Algorithm
from artfs.references import Resolver, Timeouts, obstore_store
from artfs.references.remote_objects import StorePool
from artfs.store import durable
from tests.local_server import LocalServer, Quiet
from tests.unit.test_object_cache import together

QUICK = Timeouts(connect=2, read=0.3, answer=2, transfer=20, rate_after=10, retries=1, retry_for=2)


@dataclass
class Item:
    """The server's object at a path, and how it behaves there."""

    data: bytes = b"data"
    etag: str | None = '"one"'
    status: int = 200
    body: bytes = b""  # of a reply other than 200
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[str], None] = lambda method: None
    ends: list[int] = field(default_factory=list)  # after how many bytes each reply to a GET ends
    pause: float = 0  # after each KiB
    length: bool = True
    no_head: int = 0


def until(event: threading.Event, seconds: float = 10) -> Callable[[str], None]:
    """Makes the server wait before it replies."""

    def wait(method: str) -> None:
        event.wait(seconds)

    return wait


class Web(LocalServer):
    """A server on 127.0.0.1 that records the requests."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.log: list[str] = []
        web = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_HEAD(self) -> None:
                web.answer(self, "HEAD")

            def do_GET(self) -> None:
                web.answer(self, "GET")

        super().__init__(Handler)

    def put(self, path: str, item: Item) -> str:
        self.items[path] = item
        return self.base + path

    def asked(self, method: str) -> int:
        return sum(line.startswith(method) for line in self.log)

    def answer(self, request: BaseHTTPRequestHandler, method: str) -> None:
        self.log.append(f"{method} {request.path}")
        item = self.items.get(request.path.split("?")[0], Item(status=404))
        item.before(method)
        status = item.no_head if method == "HEAD" and item.no_head else item.status
        data = item.data if status == 200 else item.body
        request.send_response(status)
        if item.etag is not None:
            request.send_header("ETag", item.etag)
        for name, value in item.headers.items():
            request.send_header(name, value)
        if item.length:
            request.send_header("Content-Length", str(len(data)))
        request.close_connection = not item.length
        request.end_headers()
        if method == "HEAD":
            return
        if item.ends:
            data = data[: item.ends.pop(0)]
            request.close_connection = True
        for start in range(0, len(data), 1024 if item.pause else 1 << 16):
            request.wfile.write(data[start : start + (1024 if item.pause else 1 << 16)])
            time.sleep(item.pause)


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of the cache; checks that neither it nor the temporary one has other files at the end."""
    path, other = tmp_path / "cache", tmp_path / "tmp"
    path.mkdir(mode=0o700)
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(other))
    yield path
    assert not [name for name in os.listdir(path) if len(name) != 64]
    assert not os.listdir(other)
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            assert not os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path))


@contextlib.contextmanager
def opened(cache: Path | None, **options: Any) -> Iterator[Resolver]:
    fd = None if cache is None else os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remote = Resolver(
            fd, algorithm=Algorithm.XXH128, world_readable_only=False, **({"timeouts": QUICK} | options)
        )
        yield remote
        remote.close()
    finally:
        if fd is not None:
            os.close(fd)


@pytest.fixture
def remote(cache: Path) -> Iterator[Resolver]:
    with opened(cache) as remote:
        yield remote


def read(remote: Resolver, uri: str, size: int, checksum: bytes) -> bytes:
    fd = remote.open(uri, size, checksum)
    assert isinstance(fd, int)
    try:
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        with open(fd, "rb", closefd=False) as file:
            data = file.read()
        with pytest.raises(OSError):
            os.write(fd, b"x")
        return data
    finally:
        os.close(fd)


# ---- http -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("etag", "checksum"),
    [('"one"', b"etag:one"), ('W/"one"', b"etag:W/one"), ("bare", b"etag:bare"), ('""', b""), (None, b"")],
)
def test_a_listing_has_size_and_etag(web: Web, remote: Resolver, etag: str | None, checksum: bytes) -> None:
    uri = web.put("/dir/a%20b.bin", Item(etag=etag)) + "?token=1"
    assert remote.list_objects(uri) == [(b"a b.bin", uri, 4, checksum)]
    assert remote.list_objects(uri, checksum=False) == [(b"a b.bin", uri, 4, b"")]
    assert web.log == ["HEAD /dir/a%20b.bin?token=1"] * 2
    with pytest.raises(InvalidCommand, match="more than 0"):
        remote.list_objects(uri, max_objects=0)


def test_an_object_is_fetched_once_and_kept(web: Web, remote: Resolver, cache: Path) -> None:
    data = os.urandom(3_000_000)
    uri = web.put("/a", Item(data))
    for _ in range(3):
        assert read(remote, uri, len(data), b"etag:one") == data
    assert web.log == ["HEAD /a", "GET /a"]
    assert [path.stat().st_size for path in cache.iterdir()] == [len(data)]
    # The next process reads it without the server.
    web.items.clear()
    with opened(cache) as again:
        assert read(again, uri, len(data), b"etag:one") == data
    # A truncated or wrong copy is fetched again.
    [copy] = cache.iterdir()
    os.truncate(copy, 5)
    web.put("/a", Item(data))
    assert read(remote, uri, len(data), b"etag:one") == data
    assert copy.stat().st_size == len(data)


def test_an_empty_object_is_read(web: Web, remote: Resolver) -> None:
    uri = web.put("/a", Item(b""))
    assert read(remote, uri, 0, b"etag:one") == b""
    assert read(remote, uri, 0, b"") == b""


def test_objects_without_checksums_are_not_cached(web: Web, remote: Resolver, cache: Path) -> None:
    uri = web.put("/a", Item())
    assert read(remote, uri, 4, b"") == b"data"
    web.put("/a", Item(b"DATA"))
    assert read(remote, uri, 4, b"") == b"DATA"
    web.put("/a", Item(b"longer"))
    assert read(remote, uri, 0, b"") == b"longer"
    with pytest.raises(Changed):
        remote.open(uri, 4, b"")
    assert list(cache.iterdir()) == []


def test_a_changed_object_is_refused(web: Web, remote: Resolver) -> None:
    uri = web.put("/a", Item(etag='"two"'))
    for action in (remote.open, remote.verify):
        with pytest.raises(Changed) as changed:
            action(uri, 4, b"etag:one")
        assert (changed.value.expected, changed.value.found) == ("etag one", "etag two")
        with pytest.raises(Changed) as changed:
            action(uri, 5, b"etag:two")
        assert (changed.value.expected, changed.value.found) == ("5 bytes", "4 bytes")
        with pytest.raises(Changed, match="recorded: version v1; found: version none"):
            action(uri, 4, b"version:v1")
        with pytest.raises(Unreachable, match="neither an ETag nor a version"):
            action(uri, 4, b"xxh128:00")
    assert set(web.log) == {"HEAD /a"}
    web.put("/a", Item(etag=None))
    with pytest.raises(Changed, match="found: etag none"):
        remote.verify(uri, 4, b"etag:one")


def test_verify_fetches_no_bytes(web: Web, remote: Resolver) -> None:
    uri = web.put("/a", Item())
    read(remote, uri, 4, b"etag:one")
    remote.verify(uri, 4, b"etag:one")
    remote.verify(uri, 4, b"")
    remote.verify(uri, 0, b"")
    assert web.log == ["HEAD /a", "GET /a", "HEAD /a", "HEAD /a", "HEAD /a"]
    web.items.clear()
    with pytest.raises(Unreachable, match="no such object"):
        remote.verify(uri, 4, b"etag:one")  # although it is in the cache


def test_a_change_between_head_and_get_is_detected(web: Web, remote: Resolver, cache: Path) -> None:
    item = Item()

    def change(method: str) -> None:
        if method == "GET":
            item.etag = '"two"'

    item.before = change
    with pytest.raises(Changed):
        remote.open(web.put("/a", item), 4, b"etag:one")
    assert list(cache.iterdir()) == []


def test_a_broken_transfer_is_repeated(web: Web, remote: Resolver, cache: Path) -> None:
    data = os.urandom(300_000)
    uri = web.put("/a", Item(data, ends=[100_000]))
    assert read(remote, uri, len(data), b"etag:one") == data
    assert web.asked("GET") >= 2


def test_a_transfer_is_repeated_a_bounded_number_of_times(web: Web, remote: Resolver, cache: Path) -> None:
    uri = web.put("/a", Item(bytes(300_000), ends=[100_000] * 100))
    with pytest.raises(Unreachable, match="broke off"):
        remote.open(uri, 300_000, b"etag:one")
    assert web.asked("GET") <= 6
    assert list(cache.iterdir()) == []


def test_a_server_that_stops_sending_times_out(web: Web, remote: Resolver) -> None:
    end = threading.Event()
    silent = web.put("/silent", Item(before=until(end)))
    amid = web.put("/amid", Item(bytes(3000), pause=1.0))
    started = time.monotonic()
    try:
        for uri in (silent, amid):
            with pytest.raises(Unreachable) as failed:
                remote.open(uri, 3000, b"etag:one")
            assert failed.value.why in ("its server doesn't answer in time", "the transfer broke off")
    finally:
        end.set()
    assert time.monotonic() - started < 8


def test_a_server_that_sends_slowly_times_out(web: Web, cache: Path) -> None:
    uri = web.put("/a", Item(bytes(100_000), pause=0.02))
    timeouts = Timeouts(read=5, rate_after=0.1, min_rate=1_000_000, retries=0)
    with opened(cache, timeouts=timeouts) as remote, pytest.raises(Unreachable, match="too slowly"):
        remote.open(uri, 100_000, b"etag:one")


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (Item(status=404), "there is no such object"),
        (Item(status=410), "410 Gone"),
        (Item(status=403, body=b"SECRET"), "403 Forbidden"),
        (Item(status=401), "401 Unauthorized"),
        (Item(status=503, body=b"SECRET"), "503 Service Unavailable"),
        (Item(status=799), "799"),
        (Item(status=302, headers={"Location": "file:///etc/passwd"}), "302 Found"),
        (Item(status=302, headers={"Location": "ftp://127.0.0.1/SECRET"}), "another scheme than http"),
        (Item(length=False), "does not report its size"),
    ],
)
def test_refusals_of_a_server_are_reported(web: Web, remote: Resolver, item: Item, why: str) -> None:
    uri = web.put("/a", item) + "?sig=SECRET"
    for action in (remote.list_objects, lambda uri: remote.open(uri, 4, b"etag:one")):
        with pytest.raises(Unreachable, match=why) as failed:
            action(uri)
        assert "SECRET" not in str(failed.value)
        assert "\n" not in str(failed.value)
        assert failed.value.__cause__ is None or "SECRET" not in str(failed.value.__cause__)
        assert failed.value.__suppress_context__


def test_unreachable_servers_are_reported(remote: Resolver) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for uri, why in (
        (f"http://me:SECRET@127.0.0.1:{port}/x?SECRET", "connection refused"),
        ("http://no-such-host.invalid/SECRET".replace("SECRET", "x"), "name of its server is not known"),
    ):
        with pytest.raises(Unreachable, match=why) as failed:
            remote.open(uri, 1, b"etag:x")
        assert "SECRET" not in str(failed.value)


def test_missing_tls_is_reported(web: Web, remote: Resolver) -> None:
    with pytest.raises(Unreachable, match="failed"):
        remote.list_objects(web.put("/a", Item()).replace("http:", "https:"))


def test_redirects_are_followed_to_http(web: Web, remote: Resolver) -> None:
    web.put("/real", Item(b"real", etag='"r"'))
    uri = web.put("/a", Item(status=302, headers={"Location": "/real"}))
    assert remote.list_objects(uri) == [(b"a", uri, 4, b"etag:r")]
    assert read(remote, uri, 4, b"etag:r") == b"real"
    loop = web.put("/loop", Item(status=302, headers={"Location": "/loop"}))
    with pytest.raises(Unreachable):
        remote.list_objects(loop)


@pytest.mark.parametrize("status", [403, 405, 501])
def test_servers_without_head_are_supported(web: Web, remote: Resolver, status: int) -> None:
    uri = web.put("/a", Item(no_head=status))
    assert remote.list_objects(uri) == [(b"a", uri, 4, b"etag:one")]
    assert read(remote, uri, 4, b"etag:one") == b"data"
    remote.verify(uri, 4, b"etag:one")


def test_a_password_in_an_address_is_sent_and_hidden(web: Web, remote: Resolver) -> None:
    uri = web.put("/a", Item()).replace("//", "//me:pw@")
    assert read(remote, uri, 4, b"etag:one") == b"data"
    with pytest.raises(Changed) as changed:
        remote.verify(uri, 4, b"etag:two")
    assert "pw" not in str(changed.value)


def test_an_object_above_the_limit_is_read_and_not_cached(web: Web, cache: Path) -> None:
    small, large = web.put("/small", Item(bytes(80))), web.put("/large", Item(bytes(101)))
    with opened(cache, limit=100) as remote:
        assert read(remote, small, 80, b"etag:one") == bytes(80)
        assert read(remote, large, 101, b"etag:one") == bytes(101)
        assert [path.stat().st_size for path in cache.iterdir()] == [80]
        assert read(remote, small, 80, b"etag:one") == bytes(80)
        assert web.log == ["HEAD /small", "GET /small", "HEAD /large", "GET /large"]


def test_the_cache_is_bounded(web: Web, cache: Path) -> None:
    with opened(cache, limit=1000) as remote:
        for number in range(20):
            assert len(
                read(remote, web.put(f"/{number}", Item(bytes(90 + number))), 90 + number, b"etag:one")
            )
            assert sum(path.stat().st_size for path in cache.iterdir()) <= 1000
        asked = len(web.log)
        read(remote, web.base + "/19", 109, b"etag:one")
        assert len(web.log) == asked


@pytest.mark.parametrize("kind", ["kept", "too large", "no cache"])
def test_objects_opened_at_once_share_one_transfer(web: Web, cache: Path, kind: str) -> None:
    go = threading.Event()
    data = os.urandom(200_000)
    uri = web.put("/a", Item(data, before=until(go)))
    limit = 1000 if kind == "too large" else 1 << 20
    timeouts = Timeouts(read=10)
    with opened(None if kind == "no cache" else cache, limit=limit, timeouts=timeouts) as remote:
        results = together(remote._fetching, 8, lambda: read(remote, uri, len(data), b"etag:one"), go.set)
        assert results == [data] * 8
        assert web.log == ["HEAD /a", "GET /a"]
        assert len(list(cache.iterdir())) == (kind == "kept")


def test_objects_opened_at_once_share_one_failure(web: Web, remote: Resolver) -> None:
    go = threading.Event()
    uri = web.put("/a", Item(status=404, before=until(go, 0.2)))
    results = together(remote._fetching, 8, lambda: remote.open(uri, 4, b"etag:one"), go.set)
    assert all(isinstance(result, Unreachable) for result in results)
    assert web.log == ["HEAD /a"]


def test_different_objects_do_not_wait_for_each_other(web: Web, cache: Path) -> None:
    go = threading.Event()
    slow = web.put("/slow", Item(before=until(go)))
    quick = web.put("/quick", Item())
    with opened(cache, timeouts=Timeouts(read=10)) as remote:
        waiting = threading.Thread(target=lambda: read(remote, slow, 4, b"etag:one"))
        waiting.start()
        assert read(remote, quick, 4, b"etag:one") == b"data"
        assert waiting.is_alive()
        go.set()
        waiting.join(10)


def test_a_full_disk_is_reported(web: Web, remote: Resolver, cache: Path, monkeypatch) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "write_all", full)
    with pytest.raises(Unreachable, match="no space left on device"):
        remote.open(web.put("/a", Item()), 4, b"etag:one")
    assert list(cache.iterdir()) == []


# ---- object stores ----------------------------------------------------------------------------------------


class Injected(StorePool):
    """A pool with one store for each bucket, whatever the scheme."""

    def __init__(self, buckets: dict[str, Any]) -> None:
        super().__init__(QUICK)
        self.buckets = buckets
        self.made: list[tuple[str, str]] = []

    def make(self, uri: str, scheme: str, where: str, *, whole: bool) -> Any:
        self.made.append((scheme, where))
        return obstore_store.ObstoreStore(self.buckets[where])


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path / "bucket", mkdir=True)


@pytest.fixture
def stored(cache: Path, store: Any) -> Iterator[Resolver]:
    with opened(cache, stores=Injected({"bucket": store})) as remote:
        yield remote


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_one_object_is_listed_and_read(stored: Resolver, store: Any, scheme: str) -> None:
    obstore.put(store, "dir/a 100%25?.bin", b"data")
    uri = f"{scheme}://bucket/dir/a 100%25?.bin"
    [found] = stored.list_objects(uri)
    assert (found.name, found.uri, found.size) == (b"a 100%25?.bin", uri, 4)
    assert found.checksum.startswith(b"etag:")
    assert b'"' not in found.checksum
    assert stored.list_objects(uri, checksum=False) == [found._replace(checksum=b"")]
    assert read(stored, uri, 4, found.checksum) == b"data"
    stored.verify(uri, 4, found.checksum)
    obstore.put(store, "dir/a 100%25?.bin", b"DATA!")
    with pytest.raises(Changed):
        stored.verify(uri, 4, found.checksum)
    assert read(stored, uri, 4, found.checksum) == b"data"  # from the cache
    obstore.delete(store, "dir/a 100%25?.bin")
    with pytest.raises(Unreachable, match="no such object"):
        stored.verify(uri, 4, found.checksum)


def test_a_prefix_lists_all_objects_below_it(stored: Resolver, store: Any) -> None:
    keys = ["set/b", "set/a/z", "set/a-", "set/\u00e4", "set/sub/deep/x", "set2/no", "sett", "other"]
    for key in keys:
        obstore.put(store, key, key.encode())
    expected = sorted(key[4:].encode() for key in keys if key.startswith("set/"))
    for uri in ("s3://bucket/set/", "s3://bucket/set"):
        found = stored.list_objects(uri)
        assert [item.name for item in found] == expected
        for item in found:
            assert item.uri == "s3://bucket/set/" + item.name.decode()
            assert read(stored, item.uri, item.size, item.checksum) == b"set/" + item.name
    for uri in ("s3://bucket", "s3://bucket/"):
        assert [item.name for item in stored.list_objects(uri, checksum=False)] == sorted(
            key.encode() for key in keys
        )
    for uri in ("s3://bucket/nothing", "s3://bucket/nothing/", "s3://bucket/sett/"):
        with pytest.raises(Unreachable, match="no object below it"):
            stored.list_objects(uri)


def test_an_object_precedes_the_prefix_of_its_name() -> None:
    store = MemoryStore()
    obstore.put(store, "k", b"data")
    obstore.put(store, "k/z", b"more")
    with opened(None, stores=Injected({"bucket": store})) as remote:
        assert [item.name for item in remote.list_objects("gs://bucket/k")] == [b"k"]
        assert [item.name for item in remote.list_objects("gs://bucket/k/")] == [b"z"]


def test_empty_objects_that_mark_directories_are_left_out() -> None:
    store = MemoryStore()
    for key, data in {"top": b"", "top/sub": b"", "top/sub/a": b"data", "top/empty": b""}.items():
        obstore.put(store, key, data)
    with opened(None, stores=Injected({"bucket": store})) as remote:
        assert [item.name for item in remote.list_objects("s3://bucket/top/")] == [b"empty", b"sub/a"]


def test_too_many_objects_are_refused_while_they_are_listed(monkeypatch) -> None:
    store = MemoryStore()
    for number in range(25):
        obstore.put(store, f"set/{number:02}", b"")
    listed: list[int] = []
    listing = obstore.list

    def counting(*arguments: Any, **options: Any) -> Iterator[Any]:
        for chunk in listing(*arguments, **options):
            listed.append(len(chunk))
            yield chunk

    monkeypatch.setattr(obstore, "list", counting)
    monkeypatch.setattr(obstore_store, "_LIST", 5)
    with opened(None, stores=Injected({"bucket": store})) as remote:
        with pytest.raises(InvalidCommand, match=r"s3://bucket/set/ has more than 7 objects: .*max_objects"):
            remote.list_objects("s3://bucket/set/", max_objects=7)
        assert sum(listed) == 10
        assert len(remote.list_objects("s3://bucket/set/", max_objects=25)) == 25


def test_stores_stay_open_by_bucket(cache: Path) -> None:
    store = MemoryStore()
    obstore.put(store, "k", b"data")
    stores = Injected({"bucket": store})
    with opened(cache, stores=stores) as remote:
        for _ in range(3):
            [found] = remote.list_objects("s3://bucket/k")
            read(remote, found.uri, 4, b"")
    assert stores.made == [("s3", "bucket")] * 2  # one for HEAD, one for transfers


def test_azure_without_an_account_says_what_is_missing(remote: Resolver, monkeypatch) -> None:
    for name in list(os.environ):
        if name.startswith("AZURE_"):
            monkeypatch.delenv(name)
    with pytest.raises(Unreachable, match="AZURE_STORAGE_ACCOUNT_NAME is not set"):
        remote.list_objects("az://container/a")


def test_missing_credentials_are_named() -> None:
    text = "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token: status code: 403"
    with (
        pytest.raises(Unreachable, match="no credentials"),
        obstore_store._translated(obstore, "s3://bucket/a"),
    ):
        raise obstore.exceptions.GenericError(text)


def test_an_unknown_failure_shows_only_names_of_variants() -> None:
    text = 'Generic error: hunter2 is bad\n\nDebug source:\nGeneric {\n source: BadKey {\n key: "hunter2" } }'
    with (
        pytest.raises(Unreachable, match=r"failed \(BadKey\)") as failed,
        obstore_store._translated(obstore, "s3://bucket/a"),
    ):
        raise obstore.exceptions.GenericError(text)
    assert "hunter2" not in repr(failed.value)


# ---- without obstore --------------------------------------------------------------------------------------


def test_without_obstore_cached_objects_are_read(web: Web, remote: Resolver, monkeypatch) -> None:
    uri = web.put("/a", Item())
    assert read(remote, uri, 4, b"etag:one") == b"data"
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert read(remote, uri, 4, b"etag:one") == b"data"
    with pytest.raises(RemoteMissing):
        remote.open(uri, 4, b"etag:two")
