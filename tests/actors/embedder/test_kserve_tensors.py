"""Which tensors of a model are taken for texts and vectors, and the line that says so."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.dialects.kserve_tensors import EXAMPLE, Config, Metadata, Tensors, choose, parse

TEXT: tuple[str, str, list[int]] = ("TEXT", "BYTES", [-1, 1])
VECTOR: tuple[str, str, list[int]] = ("EMBEDDING", "FP32", [-1, 384])


def model(inputs: list[tuple[str, str, list[int]]], outputs: list[tuple[str, str, list[int]]]) -> Metadata:
    pages = [[{"name": n, "datatype": d, "shape": s} for n, d, s in each] for each in (inputs, outputs)]
    return msgspec.convert({"inputs": pages[0], "outputs": pages[1]}, Metadata)


@pytest.mark.parametrize(
    ("words", "tensors"),
    [
        (EXAMPLE, Tensors("TEXT", True, "EMBEDDING", True)),
        ("TEXT[N] -> EMBEDDING, json", Tensors("TEXT", False, "EMBEDDING", False)),
        (" TEXT[N, 1]->EMBEDDING,binary ", Tensors("TEXT", True, "EMBEDDING", True)),
        (
            "serving_default_text:0[N] -> StatefulPartitionedCall:0, json",
            Tensors("serving_default_text:0", False, "StatefulPartitionedCall:0", False),
        ),
        ("a[N][N,1] -> b[N], json", Tensors("a[N]", True, "b[N]", False)),
    ],
)
def test_what_can_be_said(words: str, tensors: Tensors) -> None:
    assert parse(words) == tensors
    assert parse(str(tensors)) == tensors


@pytest.mark.parametrize(
    "words",
    [
        "",
        "binary",
        "base64",
        "TEXT -> EMBEDDING, binary",
        "TEXT[N,1] -> EMBEDDING",
        "TEXT[N,1] -> EMBEDDING, float",
        "TEXT[N,2] -> EMBEDDING, binary",
        "TEXT[1] -> EMBEDDING, binary",
        "TEXT[N,1] - EMBEDDING, binary",
        "TEXT[N,1] -> , binary",
        "[N,1] -> EMBEDDING, binary",
        "A[N], B[N] -> EMBEDDING, binary",
        "TEXT[N,1] -> EMBEDDING, POOLED, binary",
        "TEXT[N,1] -> EMBEDDING, binary, json",
        "takes TEXT BYTES[-1,1] and gives EMBEDDING FP32[-1, 4]",
    ],
)
def test_what_says_nothing(words: str) -> None:
    assert parse(words) is None


@given(st.text(max_size=8), st.booleans(), st.text(max_size=8), st.booleans())
def test_a_line_means_what_it_was_made_of_or_nothing(source: str, column: bool, target: str, binary: bool) -> None:
    tensors = Tensors(source, column, target, binary)
    plain = not set(source + target) & set(" ,\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0") and source and target
    if parse(str(tensors)) != tensors:
        assert not plain or any(c.isspace() for c in source + target)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words", "dim"),
    [
        ([TEXT], [VECTOR], "TEXT[N,1] -> EMBEDDING, binary", 384),
        ([("TEXT", "BYTES", [-1])], [VECTOR], "TEXT[N] -> EMBEDDING, binary", 384),
        ([("TEXT", "BYTES", [-1, -1])], [VECTOR], "TEXT[N,1] -> EMBEDDING, binary", 384),
        ([TEXT], [("E", "FP16", [-1, -1])], "TEXT[N,1] -> E, binary", None),
        ([TEXT], [("E", "BF16", [-1, 1, 64])], "TEXT[N,1] -> E, binary", 64),
        ([TEXT], [("tokens", "FP32", [-1, -1, 384]), VECTOR], "TEXT[N,1] -> EMBEDDING, binary", 384),
        ([TEXT], [VECTOR, ("ids", "INT64", [-1, 384])], "TEXT[N,1] -> EMBEDDING, binary", 384),
        ([TEXT], [VECTOR, ("score", "FP32", [-1, 1])], "TEXT[N,1] -> EMBEDDING, binary", 384),
    ],
)
def test_the_only_ones_that_can_be(
    inputs: list[tuple[str, str, list[int]]],
    outputs: list[tuple[str, str, list[int]]],
    words: str,
    dim: int | None,
) -> None:
    chosen = choose(model(inputs, outputs), Config(), binary=True)
    assert chosen
    assert (str(chosen.tensors), chosen.dim, chosen.one_by_one) == (words, dim, False)
    assert str(chosen.tensors.in_json()) == words.replace("binary", "json")


def test_a_model_of_a_fixed_size_takes_one_text() -> None:
    chosen = choose(model([("TEXT", "BYTES", [1, 1])], [("E", "FP32", [1, 8])]), Config(), binary=False)
    assert chosen
    assert chosen.one_by_one


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([], [VECTOR]),
        ([TEXT], []),
        ([TEXT, ("LANG", "BYTES", [-1, 1])], [VECTOR]),
        ([TEXT, ("mask", "INT64", [-1, 512])], [VECTOR]),
        ([("ids", "INT64", [-1, 512])], [VECTOR]),
        ([("TEXT", "BYTES", [8])], [VECTOR]),
        ([("TEXT", "BYTES", [-1, 4])], [VECTOR]),
        ([("TEXT", "BYTES", [-1, 1, 1])], [VECTOR]),
        ([("TEXT", "BYTES", [])], [VECTOR]),
        ([TEXT], [VECTOR, ("POOLED", "FP32", [-1, 384])]),
        ([TEXT], [("E", "INT8", [-1, 384])]),
        ([TEXT], [("E", "FP32", [384])]),
        ([TEXT], [("E", "FP32", [-1, 0])]),
        ([TEXT], [("E", "FP32", [-1, -2])]),
        ([("A TEXT", "BYTES", [-1, 1])], [VECTOR]),  # no line can say it
        ([TEXT], [("A,B", "FP32", [-1, 384])]),
    ],
)
def test_what_is_not_clear(
    inputs: list[tuple[str, str, list[int]]], outputs: list[tuple[str, str, list[int]]]
) -> None:
    assert choose(model(inputs, outputs), Config(), binary=True) is None


def test_an_input_that_may_be_left_out_is() -> None:
    config = msgspec.convert({"input": [{"name": "TEXT"}, {"name": "LANG", "optional": True}]}, Config)
    chosen = choose(model([TEXT, ("LANG", "BYTES", [-1, 1])], [VECTOR]), config, binary=True)
    assert chosen
    assert chosen.tensors.source == "TEXT"
