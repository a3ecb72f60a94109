"""A server of S3 on 127.0.0.1 (moto's), for tests of references."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class S3Server:
    """An empty server; ``base`` is its address, ``client`` is boto3's."""

    def __init__(self, base: str) -> None:
        import boto3

        self.base = base
        self.client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=base,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def bucket(self, name: str, *, versions: bool = False) -> str:
        self.client.create_bucket(Bucket=name)
        if versions:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def put(self, bucket: str, key: str, data: bytes = b"data") -> str:
        """Puts an object, and returns its version, if its bucket has any."""
        return str(self.client.put_object(Bucket=bucket, Key=key, Body=data).get("VersionId", ""))


@contextmanager
def s3_server() -> Iterator[S3Server]:
    from moto.server import ThreadedMotoServer  # which takes half a second

    logging.getLogger("werkzeug").disabled = True
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        found = S3Server(f"http://{host}:{port}")
        yield found
        found.client.close()
    finally:
        server.stop()


def environment(home: Path, base: str | None) -> dict[str, str]:
    """Returns environment variables: credentials in a file, and the endpoint under wandb's name."""
    home.mkdir(exist_ok=True)
    (home / "credentials").write_text("[default]\naws_access_key_id=test\naws_secret_access_key=test\n")
    found = {
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"),
        "AWS_CONFIG_FILE": str(home / "config"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return found if base is None else {**found, "AWS_S3_ENDPOINT_URL": base}
