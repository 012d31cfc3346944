"""Output in an object store: what is published is there whole or not at all, whatever fails meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest

from actors.errors import UserError
from actors.output import object_store
from actors.output import store as module
from actors.output.done import finished_parts, sweep
from actors.output.folder import REJECTS, REJECTS_PROPERTY, part_names
from actors.output.parts import Reject, part_schema, write_part, write_rejects
from actors.output.store import Store, as_place, publish_text, read_bytes, store_of
from tests.actors.output.test_folder import COLUMNS, plan_of
from tests.conftest import ROOT, eventually
from tests.servers.s3 import BUCKET, S3

MIB = 1 << 20
NAMES = [plan_of(50).part(index).name for index in range(5)]


class Faulty:
    """Stands before an S3 server; says 403 to requests whose line holds `bad`, and nothing to `late` ones."""

    def __init__(self, behind: str) -> None:
        self.bad = self.late = ""
        self.refused = 0
        closed = self._closed = Event()
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = b"".join(self.body())
                if faulty.bad and faulty.bad in self.requestline:
                    faulty.refused += 1
                    return self.reply(403, {}, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
                if faulty.late and faulty.late in self.requestline:
                    closed.wait(60)
                connection = HTTPConnection(urlsplit(behind).netloc)
                passed = {key: value for key, value in self.headers.items() if key.lower() != "transfer-encoding"}
                connection.request(self.command, self.path, body, passed)
                response = connection.getresponse()
                headers = {key: value for key, value in response.getheaders() if key != "Transfer-Encoding"}
                return self.reply(response.status, headers, response.read())

            def body(self) -> Iterator[bytes]:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    return
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for key, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def faulty(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    server = Faulty(s3.environment["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    module._store.cache_clear()
    yield server
    module._store.cache_clear()
    server.close()


@pytest.fixture(params=["s3", "fsspec"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty place in each kind of object store; that of fsspec is in memory."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        place = store_of(f"s3://{BUCKET}/{request.node.name}")
    else:
        place = store_of(f"memory://{request.node.name}")
    place.clear()
    return place


def test_what_is_published_is_listed_and_read(store: Store) -> None:
    assert list(store.names()) == list(store.names(REJECTS)) == []
    publish_text(store, "_run.json", "{}")
    publish_text(store, f"{REJECTS}/{NAMES[0]}", "ü" * 10)
    for content in (b"first", b"second"):
        store.publish("x", lambda file, content=content: file.write(content), "w")
    assert sorted(store.names()) == ["_run.json", "x"]
    assert list(store.names(REJECTS)) == [NAMES[0]]
    assert read_bytes(store, "x") == b"second"
    with store.open(f"{REJECTS}/{NAMES[0]}") as file:
        file.seek(18)
        assert (file.size(), file.read()) == (20, "ü".encode())
    store.remove("x")
    store.remove("x")
    assert list(store.names()) == ["_run.json"]
    with pytest.raises(FileNotFoundError):
        read_bytes(store, "x")
    store.clear()
    store.clear()
    assert list(store.names()) == list(store.names(REJECTS)) == []


def test_parts_and_rejects(store: Store) -> None:
    plan, columns = plan_of(50), COLUMNS
    vectors = np.arange(10 * 300_000, dtype=np.float32).reshape(10, -1)  # 12 MB: more than one piece of an upload
    schema = part_schema(columns, 300_000, "float32")
    for index, rejects in ((0, 0), (1, 3), (4, 0)):
        ids = pa.array(np.arange(10))
        for name in {NAMES[index]} if rejects else ():
            write_rejects(store, name, columns, ids, [Reject(row, "x", None, "") for row in range(rejects)], "w")
        write_part(store, NAMES[index], schema, ids, vectors, [], {REJECTS_PROPERTY: str(rejects)}, "w")
    write_rejects(store, NAMES[4], columns, ids, [Reject(0, "x", None, "")], "overtaken")
    publish_text(store, "part-00000.parquet", "not one of the plan")
    assert part_names(store.root) == {NAMES[0], NAMES[1], NAMES[4]}
    done = finished_parts(store.root, plan, range(2))
    assert (done.indexes.tolist(), done.rejects) == ([0, 1], 3)
    sweep(store.root, everything=False)
    assert sorted(store.names(REJECTS)) == [NAMES[1], NAMES[4]]
    sweep(store.root, everything=True)
    assert list(store.names(REJECTS)) == [NAMES[1]]


def test_nothing_is_there_when_writing_it_fails(store: Store) -> None:
    def half(file: object) -> None:
        file.write(b"x" * 12 * MIB)  # type: ignore[attr-defined]
        raise ValueError("bug")

    publish_text(store, "old", "old")
    for name in ("new", "old"):
        with pytest.raises(ValueError, match="bug"):
            store.publish(name, half)
    assert {name: read_bytes(store, name) for name in store.names()} == {"old": b"old"}


def big(store: Store, name: str = "big") -> None:
    store.publish(name, lambda file: file.write(memoryview(bytes(25 * MIB))))


@pytest.mark.parametrize("bad", ["partNumber=2", "partNumber=3", "POST /corpora/fail/big?uploadId"])
def test_nothing_is_there_when_the_upload_fails(faulty: Faulty, s3: S3, bad: str) -> None:
    store = store_of(f"s3://{BUCKET}/fail")
    publish_text(store, "small", "there")
    faulty.bad = bad
    with pytest.raises(OSError, match=r"^access denied; check the credentials"):
        big(store)
    assert faulty.refused
    faulty.bad = ""
    assert list(s3.listed("fail/")) == ["small"]
    big(store)
    assert len(s3.get("fail/big")) == 25 * MIB
    store.clear()


def test_a_store_that_is_away_for_a_while_is_waited_for(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(f"s3://{BUCKET}/away")
    put, failed = object_store._ArrowObjects._put, []

    def away(self: object, path: str, pieces: list[bytes]) -> None:
        if len(failed) < 3:
            failed.append(path)
            raise OSError("When …: AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7")
        put(self, path, pieces)  # type: ignore[arg-type]

    monkeypatch.setattr(object_store._ArrowObjects, "_put", away)
    monkeypatch.setattr(object_store, "_PAUSE_S", 0.001)
    publish_text(store, "x", "there")
    assert (len(failed), s3.get("away/x")) == (3, b"there")
    monkeypatch.setattr(object_store, "_PATIENCE_S", 0.0)
    failed.clear()
    with pytest.raises(OSError, match="its server cannot be reached; check the network"):
        publish_text(store, "y", "")


def test_a_process_that_is_killed_in_an_upload_leaves_nothing(faulty: Faulty, s3: S3) -> None:
    code = """
import sys
from actors.output.store import store_of
def write(file):
    file.write(memoryview(bytes(25 << 20)))
store_of(sys.argv[1]).publish("big", write)
"""
    faulty.late = "partNumber=2"
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"s3://{BUCKET}/kill"],
        cwd=ROOT,
        env=os.environ | s3.environment | {"AWS_ENDPOINT_URL": faulty.url},
    )
    eventually(lambda: s3.client.list_multipart_uploads(Bucket=BUCKET, Prefix="kill/").get("Uploads"))
    process.kill()
    process.wait()
    assert not s3.listed("kill/")


def test_what_cannot_be_is_one_line_with_a_remedy(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(call: Callable[[], object]) -> str:
        with pytest.raises(OSError) as raised:
            call()
        return str(raised.value)

    assert said(lambda: publish_text(store_of("s3://no-such-bucket/x"), "x", "")) == (
        "there is no such bucket; create it first"
    )
    store = store_of(f"s3://{BUCKET}/denied")
    faulty.bad = "/"
    for call in (
        lambda: publish_text(store, "x", ""),
        lambda: list(store.names()),
        lambda: read_bytes(store, "x"),
        lambda: store.remove("x"),
    ):
        assert said(call).startswith("access denied; check the credentials in the environment of every node")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("https://host/x", "https:// is only read from"),
        ("hf://datasets/a/b", "hf:// is only read from"),
        ("s3://", "has no bucket; name the output as s3://BUCKET/PREFIX"),
    ],
)
def test_what_is_no_place_for_output_is_refused(given: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        as_place(given)


def test_a_scheme_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match="xyz:// is no kind of storage that is known here"):
        store_of("xyz://bucket/x")
