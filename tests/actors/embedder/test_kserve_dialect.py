"""KServe v2: what a server's pages say of it, texts as bytes, and vectors from bytes or numbers."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from actors.embedder.dialects import Description, Reply
from actors.embedder.dialects.kserve import KServe
from actors.embedder.faults import Fault, Kind
from actors.errors import UserError
from actors.messages import Limits
from tests.actors.embedder.answers import finished
from tests.actors.embedder.looking import described, described_by
from tests.actors.embedder.reading import at, fields, read, wrong
from tests.servers.vectors import vectors_of

DIALECT = KServe()
TRITON = {"name": "triton", "version": "2.73.0", "extensions": ["model_repository", "binary_tensor_data"]}
INDEX = [
    {"name": "embedder", "version": "1", "state": "READY"},
    {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "no such file"},
]
MODEL = {
    "name": "embedder",
    "versions": ["1"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [-1, 1]}],
    "outputs": [{"name": "EMBEDDING", "datatype": "FP32", "shape": [-1, 384]}],
}
CONFIG = {
    "name": "embedder",
    "max_batch_size": 64,
    "input": [{"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1], "optional": False}],
    "dynamic_batching": {"preferred_batch_size": [32], "max_queue_delay_microseconds": "100"},
}
PAGES: dict[str, object] = {
    "/v2": TRITON,
    "/v2/repository/index": INDEX,
    "/v2/models/embedder": MODEL,
    "/v2/models/embedder/config": CONFIG,
}


def found_with(**changes: object) -> Description:
    """Where these pages are other than usual; by their last part."""
    names = {"server": "/v2", "index": "/v2/repository/index", "config": "/v2/models/embedder/config"}
    pages = PAGES | {names.get(name, "/v2/models/embedder"): page for name, page in changes.items()}
    found = described_by(
        DIALECT, {path: page for path, page in pages.items() if page is not None}, model="embedder"
    )
    assert found
    return found


def test_triton_tells_all() -> None:
    found = described_by(DIALECT, PAGES)
    assert found
    assert found.server == "triton 2.73.0 (KServe v2)"
    assert found.route == "http://host/v2/models/embedder/infer"
    assert found.encodings == ("TEXT[N,1] -> EMBEDDING, binary", "TEXT[N,1] -> EMBEDDING, json")
    assert found.models == ("embedder",)
    assert found.dim == 384
    assert found.limits == Limits(texts_per_request=64, bytes_per_request=64 << 20)
    assert found.batching == "merges requests, up to 64 texts (dynamic_batching)"
    assert found.takes == frozenset()
    page = "/v2/models/embedder"
    assert found.told == {
        "server": "/v2",
        "models": "/v2/repository/index",
        "encodings": page,
        "dim": page,
        "batching": f"{page}/config",
        "texts_per_request": f"{page}/config",
    }


def test_a_server_without_the_extension_is_asked_in_json() -> None:
    found = found_with(server={"name": "other", "extensions": []}, index=None, config=None)
    assert found.encodings == ("TEXT[N,1] -> EMBEDDING, json",)
    assert (found.limits, found.batching, found.models) == (Limits(), "", ())
    assert found_with(server=None, index=None, config=None).encodings == ("TEXT[N,1] -> EMBEDDING, json",)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"max_batch_size": 8}, "merges nothing"),
        ({"max_batch_size": 0, "dynamic_batching": {}}, "merges nothing"),
        ({"max_batch_size": 8, "dynamic_batching": {}}, "merges requests, up to 8"),
    ],
)
def test_what_is_merged(config: dict[str, object], words: str) -> None:
    found = found_with(config=config)
    assert found.batching.startswith(words)
    assert found.limits.texts_per_request == (config["max_batch_size"] or None)


def test_a_model_of_one_text_takes_one() -> None:
    model = MODEL | {"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [1]}]}
    found = found_with(model=model, config={"max_batch_size": 0})
    assert found.limits.texts_per_request == 1
    assert found.told["texts_per_request"] == "/v2/models/embedder"


@pytest.mark.parametrize(
    "pages",
    [
        {},
        {"/v2": b"<html>"},
        {"/v2": {"name": "x"}},
        {"/v2/models/m": {"inputs": []}},
        {"/v1/models": {"data": [{"id": "m"}]}},
    ],
)
@pytest.mark.parametrize("model", ["", "m"])
def test_others_are_not_taken_for_it(pages: dict[str, object], model: str) -> None:
    assert described_by(DIALECT, pages, model=model) is None


def test_of_several_models_none_is_chosen() -> None:
    index = [{"name": "a"}, {"name": "b"}, {"name": "a", "version": "2"}]
    found = described_by(DIALECT, {"/v2": TRITON, "/v2/repository/index": index})
    assert found
    assert found.models == ("a", "b")


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (Reply(404, {}, b'{"error":"Request for unknown model: \'m\' is not found"}'), Kind.NOT_FOUND),
        (Reply(503, {}, b'{"error":"model \'m\' is not at ready state"}'), Kind.STARTING),
        (Reply(403, {}, b'{"error":"This API is restricted, expecting header \'X\'"}'), Kind.AUTH),
        (Reply(200, {}, b"<html>"), Kind.WRONG_ANSWER),
        (None, Kind.TRANSPORT),
    ],
)
def test_a_known_server_without_the_model_says_so(page: Reply | None, kind: Kind) -> None:
    def answer(_: int, request: Any) -> Reply | None:
        return page if "models" in request.url else Reply(200, {}, msgspec.json.encode(TRITON))

    with pytest.raises(Fault) as raised:
        described(DIALECT, answer, model="m")
    assert raised.value.kind is kind


def test_a_name_is_part_of_a_url() -> None:
    found = described_by(DIALECT, {"/v2": TRITON, "/v2/models/a%2Fb%20c": MODEL}, model="a/b c")
    assert found
    assert found.route == "http://host/v2/models/a%2Fb%20c/infer"
    endpoint = at("http://host/v2", "kserve", "T[N] -> E, json", model="a/b c")
    assert DIALECT.embed(endpoint, ["x"]).url == found.route


TEXTS = ["a", "Straße 東京 🙂", "", "\x00\n"]


@pytest.mark.parametrize(("shape", "words"), [([4, 1], "TEXT[N,1]"), ([4], "TEXT[N]")])
def test_texts_go_as_bytes(shape: list[int], words: str) -> None:
    request = DIALECT.embed(at("http://host", "kserve", f"{words} -> EMBEDDING, binary"), TEXTS)
    assert request.url == "http://host/v2/models/m/infer"
    size = int(request.headers["Inference-Header-Content-Length"])
    data = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in TEXTS)
    assert request.body[size:] == data
    assert request.headers["Content-Type"] == "application/octet-stream"
    assert msgspec.json.decode(request.body[:size]) == {
        "inputs": [
            {"name": "TEXT", "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
        ],
        "outputs": [{"name": "EMBEDDING", "parameters": {"binary_data": True}}],
    }


def test_texts_go_as_json() -> None:
    request = DIALECT.embed(at("http://host", "kserve", "TEXT[N,1] -> EMBEDDING, json", "http://h/x"), TEXTS)
    assert (request.url, dict(request.headers)) == ("http://h/x", {})
    assert fields(request) == {
        "inputs": [{"name": "TEXT", "shape": [4, 1], "datatype": "BYTES", "data": TEXTS}],
        "outputs": [{"name": "EMBEDDING"}],
    }


@pytest.mark.parametrize("encoding", ["", "base64", "takes A INT64[-1] and gives B FP32[-1, 4]"])
def test_without_tensors_nothing_is_asked(encoding: str) -> None:
    with pytest.raises(UserError, match=r"http://host: .*encoding: .*TEXT\[N,1\] -> EMBEDDING, binary"):
        DIALECT.embed(at("http://host", "kserve", encoding), ["a"])


ROWS = vectors_of(["a", "b", "c"], 8)


def tensor(datatype: str = "FP32", shape: tuple[int, ...] = (3, 8), **more: object) -> dict[str, object]:
    output = {"name": "EMBEDDING", "datatype": datatype, "shape": shape} | more
    return {"model_name": "m", "model_version": "1", "outputs": [output]}


def in_bytes(
    data: bytes, size: int | None = None, header: object = None, **of: Any
) -> tuple[bytes, dict[str, str]]:
    told = {"binary_data_size": len(data) if size is None else size}
    start = msgspec.json.encode(tensor(parameters=told, **of) if header is None else header)
    return start + data, {"Inference-Header-Content-Length": str(len(start))}


def brain_floats(rows: np.ndarray) -> bytes:
    return (np.ascontiguousarray(rows).view("<u4") >> 16).astype("<u2").tobytes()


@pytest.mark.parametrize(
    ("datatype", "data", "atol"),
    [
        ("FP32", ROWS.astype("<f4").tobytes(), 0),
        ("FP16", ROWS.astype("<f2").tobytes(), 1e-3),
        ("BF16", brain_floats(ROWS), 1e-2),
        ("FP64", ROWS.astype("<f8").tobytes(), 0),
    ],
)
@pytest.mark.parametrize("shape", [(3, 8), (3, 1, 8)])
def test_vectors_from_bytes(datatype: str, data: bytes, atol: float, shape: tuple[int, ...]) -> None:
    body, headers = in_bytes(data, datatype=datatype, shape=shape)
    answer = read(DIALECT, body, 3, headers)
    np.testing.assert_allclose(answer.vectors, ROWS, atol=atol, rtol=0)
    assert (answer.vectors.dtype, answer.vectors.shape, answer.tokens) == (np.float32, (3, 8), None)
    answer.vectors[0, 0] = 5  # it is no part of the body


def test_half_precision_is_exact() -> None:
    rows = np.array([[1.5, -65504.0, 6.1e-05, 2**-24]], np.float16)
    body, headers = in_bytes(rows.tobytes(), datatype="FP16", shape=(1, 4))
    np.testing.assert_array_equal(read(DIALECT, body, 1, headers).vectors, rows.astype(np.float32))


def test_one_text_s_vector_may_stand_alone() -> None:
    body, headers = in_bytes(ROWS[0].tobytes(), shape=(8,))
    np.testing.assert_array_equal(read(DIALECT, body, 1, headers).vectors, ROWS[:1])


def test_many_are_copied_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.embedder.dialects.kserve._STEP_VALUES", 5)
    body, headers = in_bytes(ROWS.tobytes())
    reading = DIALECT.answer(Reply(200, httpx.Headers(headers), body), 3)
    for _ in range(4):
        next(reading)
    np.testing.assert_array_equal(finished(reading).vectors, ROWS)


GOOD = ROWS.tobytes()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        in_bytes(GOOD[:-1]),
        in_bytes(GOOD + b"\0"),
        in_bytes(GOOD, size=len(GOOD) - 4),
        in_bytes(GOOD, size=-1),
        in_bytes(GOOD, shape=(3, 4)),
        in_bytes(GOOD, shape=(3, 4, 2)),
        in_bytes(GOOD, shape=(6, 4)),
        in_bytes(GOOD, shape=(4, 8)),
        in_bytes(GOOD, shape=(3, 2, 8)),
        in_bytes(GOOD, shape=(24,)),
        in_bytes(GOOD, shape=()),
        in_bytes(b"", shape=(3, 0)),
        in_bytes(GOOD, shape=(3, -8)),
        in_bytes(GOOD, shape=(-3, -8)),
        in_bytes(GOOD, datatype="FP16"),
        in_bytes(GOOD, datatype="INT32"),
        in_bytes(GOOD, datatype="BYTES"),
        in_bytes(GOOD, header=tensor()),
        in_bytes(GOOD, header={"outputs": []}),
        in_bytes(GOOD, header={"outputs": [{}]}),
        in_bytes(GOOD, header={"error": "no"}),
        in_bytes(GOOD, header=tensor(parameters={"binary_data_size": str(len(GOOD))})),
        in_bytes(b"", header={"outputs": 2 * tensor()["outputs"]}),  # type: ignore[operator]
        (GOOD, {"Inference-Header-Content-Length": "0"}),
        (GOOD, {"Inference-Header-Content-Length": "9"}),
    ],
)
def test_bytes_that_are_not_the_vectors(body: bytes, headers: dict[str, str]) -> None:
    assert wrong(DIALECT, body, 3, headers)


LENGTH = "inference-header-content-length"


@pytest.mark.parametrize(
    "spelling", ["-{}", "+{}", " {}", "{}.0", "x", "9999999", "9" * 40, "{}\x00", "0x{:x}", "{:,}"]
)
def test_a_header_that_is_no_length(spelling: str) -> None:
    body, headers = in_bytes(GOOD, name="E" * 1000)
    told = spelling.format(int(headers["Inference-Header-Content-Length"]))
    with pytest.raises(Fault) as raised:
        finished(DIALECT.answer(Reply(200, {LENGTH: told}, body), 3))
    assert raised.value.kind is Kind.WRONG_ANSWER


def test_digits_are_ascii() -> None:
    body, headers = in_bytes(GOOD)
    told = headers["Inference-Header-Content-Length"].translate({48 + i: 0x660 + i for i in range(10)})
    with pytest.raises(Fault):
        finished(DIALECT.answer(Reply(200, {LENGTH: told}, body), 3))


def test_integers_too_large_for_simdjson() -> None:
    answer = read(
        DIALECT, b'{"outputs":[{"name":"E","datatype":"FP32","shape":[1,2],"data":[1,%d]}]}' % (10**30), 1
    )
    assert answer.vectors.tolist() == [[1, float(np.float32(1e30))]]


@pytest.mark.parametrize("shape", [(3, 8), (3, 1, 8)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_vectors_from_numbers(shape: tuple[int, ...], depth: int) -> None:
    nested: Any = {1: ROWS.ravel(), 2: ROWS, 3: ROWS[:, None]}[depth]
    answer = read(DIALECT, tensor(shape=shape, data=nested.tolist()), 3)
    np.testing.assert_array_equal(answer.vectors, ROWS)
    assert answer.vectors.dtype == np.float32


def test_numbers_before_their_shape() -> None:
    body = {"outputs": [{"data": ROWS.tolist(), "shape": [3, 8], "name": "E", "datatype": "FP32"}]}
    np.testing.assert_array_equal(read(DIALECT, body, 3).vectors, ROWS)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_long_list_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("actors.embedder.dialects.rows._FLAT_BYTES", size)
    body = msgspec.json.encode(tensor(data=ROWS.ravel().tolist()))
    np.testing.assert_array_equal(read(DIALECT, body, 3).vectors, ROWS)
    np.testing.assert_array_equal(read(DIALECT, body.replace(b",", b" ,\n"), 3).vectors, ROWS)


@pytest.mark.parametrize(
    "output",
    [
        {"data": ROWS.ravel().tolist()[:-1]},
        {"data": [*ROWS.ravel().tolist(), 1.0]},
        {"data": ROWS[:2].tolist()},
        {"data": [*ROWS[:2].tolist(), ROWS[2].tolist()[:-1]]},
        {"data": [*ROWS[:2].tolist(), 1.0]},
        {"data": ["1"] * 24},
        {"data": [True] * 24},
        {"data": [None] * 24},
        {"data": []},
        {"data": [[], [], []]},
        {"data": None},
        {"data": 5.0},
        {"data": {}},
        {},
        {"data": ROWS.tolist(), "datatype": "INT32"},
        {"data": ROWS.tolist(), "shape": (3, 9)},
        {"data": ROWS.tolist(), "shape": (8, 3)},
        {"data": [[1.0] * 6] * 4},
        {"data": [[[1.0] * 4] * 2] * 3},
        {"data": [[ROWS.tolist()]]},
        {"data": [10**400] * 24},
    ],
)
def test_numbers_that_are_not_the_vectors(output: dict[str, Any]) -> None:
    assert wrong(DIALECT, json.dumps(tensor(**output)).encode(), 3)


def test_numbers_that_stand_elsewhere() -> None:
    body = {"parameters": {"data": ROWS.tolist()}, **tensor(data=[1, 2, 3])}
    assert "not 3 x 8 numbers" in wrong(DIALECT, body, 3)


def test_an_answer_that_breaks_off() -> None:
    whole = msgspec.json.encode(tensor(data=ROWS.tolist()))
    for end in range(0, len(whole), 7):
        assert wrong(DIALECT, whole[:end], 3)


def test_a_tensor_that_is_said_twice_is_not_taken() -> None:
    twice = tensor(data=ROWS.tolist())["outputs"]
    assert "2 tensors came" in wrong(DIALECT, {"outputs": [*twice, *twice]}, 3)  # type: ignore[misc]
