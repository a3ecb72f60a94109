"""Http servers, Google's and Azure's object stores, over obstore.

Owns: how obstore is asked, and what its errors mean. Must not know caches and what is done with an answer.
Blocking; any thread.

Credentials and endpoints come from the environment, under the names that object stores' own tools use
(``GOOGLE_...``, ``AZURE_...``). Nothing of a URI's query, of the text of an answer, or of obstore's own
messages, which quote both, gets into an error: those are made here of words that are known.

Redirects are followed by reqwest, which knows http and https only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from artfs.errors import RemoteMissing, Unreachable
from artfs.references.remote_store import (
    HEAD_REFUSED,
    HeadRefused,
    NoObject,
    ObjectInfo,
    RequestFailed,
    Timeouts,
    TransferBroken,
    status_text,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_LIST = 1000  # objects a chunk
# Set on a store, these options take the place of what obstore reads from the environment.
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

    partial = False  # obstore lists below whole components

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
        try:
            with _translated(obstore, uri):
                yield from result.stream(min_chunk_size=1)
        except (Unreachable, RequestFailed) as error:
            raise TransferBroken(uri, error.why) from None

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
        "read_timeout": timedelta(seconds=timeouts.silence),
        "timeout": timedelta(seconds=timeouts.transfer if whole else timeouts.answer),
        "user_agent": "artfs",
    }
    retry: Any = {
        "max_retries": timeouts.retries,
        "retry_timeout": timedelta(seconds=timeouts.retry_for),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=2),
            "base": 2,
        },
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
# The names of Rust's variants in an error's debug text: they are code, and hold no data.
_VARIANT = re.compile(r"\b(?:source|kind|inner): ([A-Z][A-Za-z]+)")
_METADATA_SERVICE = re.compile(r"https?://(?:169\.254\.169\.254|169\.254\.170\.2|metadata\.google\.internal)")
_WORDS = (
    ("MissingContentLength", "the server doesn't tell its size"),
    ("RangeNotSupported", "the transfer broke off"),
    ("dns error", "the name of its server is not known"),
    ("TimedOut", "its server doesn't answer in time"),
    ("IncompleteMessage", "the connection broke off"),
    ("UnexpectedEof", "the connection broke off"),
    ("ertificate", "the certificate of its server is not trusted"),
    ("BadScheme", "it leads to another scheme than http"),
    ("MissingAccount", "AZURE_STORAGE_ACCOUNT_NAME is not set"),
)


@contextmanager
def _translated(obstore: Any, uri: str) -> Iterator[None]:
    try:
        yield
    # What obstore raises: its own, FileNotFoundError and the like, ValueError for paths and addresses.
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        text = str(error)
        asked_metadata = _METADATA_SERVICE.search(text) and not _METADATA_SERVICE.match(uri)
        found = None if asked_metadata else _STATUS.search(text)
        status = int(found[1]) if found else None
        failure: Exception
        if asked_metadata:
            failure = Unreachable(uri, "no credentials for it are in the environment")
        elif status in HEAD_REFUSED or "MissingContentLength" in text:
            failure = HeadRefused(uri, _why(text, status))
        elif isinstance(error, FileNotFoundError):
            failure = NoObject(uri, "there is no such object")
        elif isinstance(error, ValueError):
            failure = Unreachable(uri, "obstore can't use this address")
        else:
            failure = Unreachable(uri, _why(text, status))
        # Not chained: the other's text may show what is secret.
        raise failure from None


def _why(text: str, status: int | None) -> str:
    if status is not None:
        return status_text(status)
    if code := _SYSTEM.search(text):
        return os.strerror(int(code[1])).lower()
    for word, meaning in _WORDS:
        if word in text:
            return meaning
    return f"the request failed ({', '.join(dict.fromkeys(_VARIANT.findall(text))) or 'no reason known'})"
