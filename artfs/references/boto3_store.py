"""S3, through boto3, which finds credentials and endpoints where users of AWS keep them.

Owns: the calls of boto3, and the meaning of its errors. Must not know caches and the use of an answer.
Blocking; any thread.

Keys are sent as they are, ``//`` included, and a prefix may end anywhere: other libraries treat keys as
paths. boto3 finds credentials, profiles, region and endpoint in the environment, in ``~/.aws``, and in the
metadata of the machine. A configured endpoint may be http. The text of an answer never gets into an error,
which is made of known words only.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from artfs.errors import RemoteMissing, Unreachable
from artfs.references import remote_store
from artfs.references.remote_store import ObjectInfo, Timeouts

_CHUNK = 1 << 16  # bytes
_REGION = "us-east-1"  # the default of S3; other servers ignore it
_CONNECTIONS = 64  # at least the number of simultaneous transfers

_NO_CREDENTIALS = (
    "there are no credentials for it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a"
    " profile of ~/.aws/credentials, or AWS_SKIP_SIGNATURE=true for a public bucket"
)
#: Error codes of S3 that say more than the status.
_CODES = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchVersion": "there is no such version of it",
    "ExpiredToken": "the credentials for it have expired",
    "InvalidAccessKeyId": "its server does not know the access key",
    "InvalidToken": "its server refuses the session token",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "RequestTimeTooSkewed": "the clock of this machine differs from its server's",
}
#: By the name of botocore's exception, which is imported only when it is needed.
_KINDS = {
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": "the credentials for it are not complete",
    "ProfileNotFound": "no file in ~/.aws has the profile that AWS_PROFILE names",
    "ConfigParseError": "the files of ~/.aws can't be read",
    "ConnectTimeoutError": remote_store.TIMED_OUT,
    "ReadTimeoutError": remote_store.TIMED_OUT,
    "ConnectionClosedError": remote_store.BROKEN,
    "ResponseStreamingError": remote_store.BROKEN,
    "IncompleteReadError": remote_store.BROKEN,
    "SSLError": "the certificate of its server is not trusted, or it speaks no TLS",
    "ParamValidationError": "the name of the bucket or key is not legal in S3",
}


class Boto3Store:
    """A bucket of S3."""

    lists_partial_names = True

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def head(self, uri: str, path: str, version: str) -> ObjectInfo:
        with _translated(uri, head=True):
            return _meta(self._client.head_object(**self._named(path, version)))

    def get(self, uri: str, path: str, version: str) -> tuple[ObjectInfo, Iterator[bytes]]:
        with _translated(uri):
            answer = self._client.get_object(**self._named(path, version))
        return _meta(answer), self._chunks(uri, answer["Body"])

    @staticmethod
    def _chunks(uri: str, body: Any) -> Iterator[bytes]:
        with contextlib.closing(body), remote_store.transferring(uri), _translated(uri):
            yield from body.iter_chunks(_CHUNK)

    def list(self, uri: str, prefix: str) -> Iterator[list[tuple[str, ObjectInfo]]]:
        with _translated(uri):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                yield [
                    (item["Key"], ObjectInfo.of(item["Size"], item.get("ETag"), None))
                    for item in page.get("Contents", ())
                ]

    def _named(self, path: str, version: str) -> dict[str, str]:
        named = {"Bucket": self._bucket, "Key": path}
        return {**named, "VersionId": version} if version else named


def client(uri: str, timeouts: Timeouts) -> Any:
    """Makes a client, for any bucket and any thread. Raises RemoteMissing and Unreachable."""
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
    except ImportError:
        raise RemoteMissing(uri) from None
    unsigned = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    with _translated(uri):
        session = boto3.Session()
        if not unsigned and session.get_credentials() is None:
            # A client made without credentials would never look for them again.
            raise Unreachable(uri, _NO_CREDENTIALS)
        return session.client(
            "s3",
            region_name=os.environ.get("AWS_REGION") or session.region_name or _REGION,
            endpoint_url=_endpoint(),
            config=Config(
                connect_timeout=timeouts.connect,
                read_timeout=timeouts.read,
                retries={"total_max_attempts": 1 + timeouts.retries, "mode": "standard"},
                max_pool_connections=_CONNECTIONS,
                user_agent_extra="artfs",
                signature_version=UNSIGNED if unsigned else None,
            ),
        )


def _endpoint() -> str | None:
    """Returns an endpoint that boto3 does not find itself: from wandb's variable, or obstore's."""
    named = os.environ.get
    if own := named("AWS_S3_ENDPOINT_URL"):
        return own
    return None if named("AWS_ENDPOINT_URL_S3") or named("AWS_ENDPOINT_URL") else named("AWS_ENDPOINT")


def _meta(answer: Any) -> ObjectInfo:
    return ObjectInfo.of(answer["ContentLength"], answer.get("ETag"), answer.get("VersionId"))


@contextlib.contextmanager
def _translated(uri: str, *, head: bool = False) -> Iterator[None]:
    from http.client import HTTPException

    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    # Not chained: the original text may contain secrets.
    except ClientError as error:
        raise _refused(uri, error.response, head) from None
    except (BotoCoreError, HTTPError, HTTPException, OSError) as error:
        raise Unreachable(uri, _why(error)) from None
    except ValueError:
        raise Unreachable(uri, "the endpoint that is set for S3 is not a legal address") from None


def _refused(uri: str, response: Any, head: bool) -> Unreachable | remote_store.RequestFailed:
    code = response.get("Error", {}).get("Code", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    why = _CODES.get(code) or remote_store.status_text(status)
    if head and status in remote_store.HEAD_REFUSED:
        return remote_store.HeadRefused(uri, why)
    if code == "NoSuchBucket" or status != 404:
        return Unreachable(uri, why)
    return remote_store.NoObject(uri, _CODES.get(code, "there is no such object"))


def _why(error: BaseException) -> str:
    for kind in type(error).__mro__:
        if kind.__name__ in _KINDS:
            return _KINDS[kind.__name__]
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        seen.add(id(one))
        if isinstance(one, socket.gaierror):
            return remote_store.UNKNOWN_HOST
        if isinstance(one, OSError) and one.errno:
            return os.strerror(one.errno).lower()
        causes = (one.__cause__, one.__context__, getattr(one, "reason", None), *_given(one))
        todo += [e for e in causes if isinstance(e, BaseException) and id(e) not in seen]
    return f"the request failed ({type(error).__name__})"


def _given(error: BaseException) -> list[Any]:
    """Returns the details that botocore stores in an exception."""
    given = getattr(error, "kwargs", None)
    return list(given.values()) if isinstance(given, dict) else []
