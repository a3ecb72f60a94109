"""Http servers, Google's and Azure's object stores, through obstore.

Owns: the calls of obstore, and the meaning of its errors. Must not know caches and the use of an answer.
Blocking; any thread.

Credentials and endpoints are those of the environment, under the names that the object stores' own tools use
(``GOOGLE_...``, ``AZURE_...``). A URI's query, the text of an answer, and obstore's messages, which quote
both, never get into an error, which is made of known words only.

reqwest follows redirects; it supports http and https only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from artfs.errors import RemoteMissing, Unreachable
from artfs.references import remote_store
from artfs.references.remote_store import ObjectInfo, Timeouts

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_LIST = 1000  # objects a chunk
# Set for a store, these options replace what obstore reads from the environment.
_ENVIRONMENT = {"gs": "GOOGLE", "az": "AZURE"}
_INHERITED = (
    "allow_http",
    "allow_invalid_certificates",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
)


class ObstoreStore:
    """A bucket, or an http address."""

    lists_partial_names = False  # obstore's prefixes are whole components

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def head(self, uri: str, path: str, version: str) -> ObjectInfo:
        obstore = _obstore(uri)
        with _translated(obstore, uri):
            if version:
                options = {"version": version, "head": True}
                return _meta(obstore.get(self._store, path, options=options).meta)
            return _meta(obstore.head(self._store, path))

    def get(self, uri: str, path: str, version: str) -> tuple[ObjectInfo, Iterator[bytes]]:
        obstore = _obstore(uri)
        with _translated(obstore, uri):
            result = obstore.get(self._store, path, options={"version": version} if version else None)
        return _meta(result.meta), self._chunks(obstore, uri, result)

    @staticmethod
    def _chunks(obstore: Any, uri: str, result: Any) -> Iterator[bytes]:
        with remote_store.transferring(uri), _translated(obstore, uri):
            yield from result.stream(min_chunk_size=1)

    def list(self, uri: str, prefix: str) -> Iterator[list[tuple[str, ObjectInfo]]]:
        obstore = _obstore(uri)
        with _translated(obstore, uri):
            for chunk in obstore.list(self._store, prefix.rstrip("/") or None, chunk_size=_LIST):
                yield [(item["path"], _meta(item)) for item in chunk if item["path"].startswith(prefix)]


def make(uri: str, scheme: str, where: str, timeouts: Timeouts, *, whole: bool) -> ObstoreStore:
    """Makes the store of a bucket, or of an http address. Raises RemoteMissing and Unreachable."""
    obstore = _obstore(uri)
    with _translated(obstore, uri):
        return ObstoreStore(_make(obstore.store, scheme, where, timeouts, whole))


def _make(store: Any, scheme: str, where: str, timeouts: Timeouts, whole: bool) -> ObjectStore:
    client: Any = {
        "connect_timeout": timedelta(seconds=timeouts.connect),
        "read_timeout": timedelta(seconds=timeouts.read),
        "timeout": timedelta(seconds=timeouts.transfer if whole else timeouts.answer),
        "user_agent": "artfs",
    }
    retry: Any = {
        "max_retries": timeouts.retries,
        "retry_timeout": timedelta(seconds=timeouts.retry_for),
        "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    if scheme in ("http", "https"):
        client["allow_http"] = scheme == "http"
        made: ObjectStore = store.HTTPStore(where, client_options=client, retry_config=retry)
        return made
    for option in _INHERITED:
        if value := os.environ.get(f"{_ENVIRONMENT[scheme]}_{option.upper()}"):
            client[option] = value
    if scheme == "gs":
        made = store.GCSStore(where, client_options=client, retry_config=retry)
    else:
        made = store.AzureStore(container_name=where, client_options=client, retry_config=retry)
    return made


def _obstore(uri: str) -> Any:
    """Imports obstore; raises RemoteMissing."""
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise RemoteMissing(uri) from None
    return obstore


def _meta(meta: Any) -> ObjectInfo:
    return ObjectInfo.of(meta["size"], meta.get("e_tag"), meta.get("version"))


# ---- what went wrong --------------------------------------------------------------------------------------

_STATUS = re.compile(r"status code: (\d{3})")
_SYSTEM = re.compile(r"Os \{\s*code: (\d+)")
# The names of Rust's variants in an error's debug text, which contain no data.
_VARIANT = re.compile(r"\b(?:source|kind|inner): ([A-Z][A-Za-z]+)")
_METADATA_SERVICE = re.compile(r"https?://(?:169\.254\.169\.254|169\.254\.170\.2|metadata\.google\.internal)")
_WORDS = (
    ("MissingContentLength", "the server does not report its size"),
    ("RangeNotSupported", "the transfer broke off"),
    ("dns error", remote_store.UNKNOWN_HOST),
    ("TimedOut", remote_store.TIMED_OUT),
    ("IncompleteMessage", remote_store.BROKEN),
    ("UnexpectedEof", remote_store.BROKEN),
    ("ertificate", "the certificate of its server is not trusted"),
    ("BadScheme", "it redirects to another scheme than http"),
    ("MissingAccount", "AZURE_STORAGE_ACCOUNT_NAME is not set"),
)


@contextmanager
def _translated(obstore: Any, uri: str) -> Iterator[None]:
    try:
        yield
    # obstore raises its own errors, FileNotFoundError and the like, ValueError for paths and addresses.
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        text = str(error)
        asked_metadata = _METADATA_SERVICE.search(text) and not _METADATA_SERVICE.match(uri)
        found = None if asked_metadata else _STATUS.search(text)
        status = int(found[1]) if found else None
        failure: Exception
        if asked_metadata:
            failure = Unreachable(uri, "the environment has no credentials for it")
        elif status in remote_store.HEAD_REFUSED or "MissingContentLength" in text:
            failure = remote_store.HeadRefused(uri, _why(text, status))
        elif isinstance(error, FileNotFoundError):
            failure = remote_store.NoObject(uri, "there is no such object")
        elif isinstance(error, ValueError):
            failure = Unreachable(uri, "obstore can't use this address")
        else:
            failure = Unreachable(uri, _why(text, status))
        # Not chained: the original text may contain secrets.
        raise failure from None


def _why(text: str, status: int | None) -> str:
    if status is not None:
        return remote_store.status_text(status)
    if code := _SYSTEM.search(text):
        return os.strerror(int(code[1])).lower()
    for word, meaning in _WORDS:
        if word in text:
            return meaning
    return f"the request failed ({', '.join(dict.fromkeys(_VARIANT.findall(text))) or 'no reason known'})"
