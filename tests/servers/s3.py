"""A real S3 server on this machine (moto's), and the pytest fixture `s3` that lends it to a test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

BUCKET = "corpora"


@dataclass(frozen=True)
class S3:
    """`client` is boto3's, on a bucket that is there. `environment` is what a process needs to find the server."""

    client: Any
    environment: dict[str, str]

    def put(self, key: str, content: bytes) -> str:
        """Its URL."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def listed(self, prefix: str) -> dict[str, str]:
        """Entity tag of each object below the prefix, by the rest of its name."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {
            each["Key"].removeprefix(prefix): each["ETag"] for page in pages for each in page.get("Contents", [])
        }

    @property
    def keys(self) -> dict[str, str]:
        """As polars and others want them named."""
        return {
            "aws_access_key_id": self.environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.environment["AWS_SECRET_ACCESS_KEY"],
        }

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)


@contextmanager
def s3_server() -> Iterator[S3]:
    """One that runs until the block ends."""
    import boto3  # here: whoever needs no S3 does not wait for them
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="an-id",
        aws_secret_access_key="a-secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    try:
        yield S3(client, environment)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3_of_the_session() -> Iterator[S3]:
    with s3_server() as s3:
        yield s3


@pytest.fixture
def s3(s3_of_the_session: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """Its address and keys are in the environment. The bucket is shared: put things under names of your own."""
    for name, value in s3_of_the_session.environment.items():
        monkeypatch.setenv(name, value)
    return s3_of_the_session
