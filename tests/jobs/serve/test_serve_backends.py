from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

from actors.errors import UserError
from jobs.serve.backends import Backend, load_backend
from jobs.serve.backends.base import encode, unit_rows


def test_related_texts_are_nearer_than_unrelated_ones(wordllama: Backend) -> None:
    wait, child, cake = encode(
        wordllama,
        ["wait for a process to end", "block until the child process terminates", "bake a chocolate cake"],
    ).vectors
    assert wait @ child > wait @ cake + 0.2


def test_types_and_shapes(wordllama: Backend) -> None:
    encoded = encode(wordllama, ["one", "two words"])
    assert encoded.vectors.dtype == np.float32
    assert encoded.vectors.shape == (2, wordllama.dim)
    assert encoded.tokens.dtype == np.int64
    assert encoded.tokens.tolist() == [1, 2]


def test_a_text_without_tokens_gets_a_unit_vector(wordllama: Backend) -> None:
    encoded = encode(wordllama, ["", "a text", ""])
    assert encoded.tokens.tolist()[::2] == [0, 0]
    np.testing.assert_allclose(np.linalg.norm(encoded.vectors, axis=1), 1.0, atol=1e-6)
    assert np.array_equal(encoded.vectors[0], encoded.vectors[2])


def test_a_text_past_the_counting_threshold_has_the_vector_of_its_mean(wordllama: Backend) -> None:
    # 40,000 tokens take the counting way, 10 the gathering way; repeating a text does not move its mean.
    short, long = "the cat and the dog and the bird", " ".join(["the cat and the dog and the bird"] * 5000)
    encoded = encode(wordllama, [short, long])
    assert encoded.tokens[1] > 32_000
    np.testing.assert_allclose(encoded.vectors[0], encoded.vectors[1], atol=1e-4)


def test_unit_rows_of_rows_without_a_direction() -> None:
    rows = np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1]], np.float32)
    equal = [0.5**0.5, 0.5**0.5]
    expected = np.array([[0.6, 0.8], equal, equal, equal], np.float32)
    np.testing.assert_allclose(unit_rows(rows), expected, rtol=1e-6)
    assert rows[1].tolist() == [0, 0]


def test_loading_leaves_the_root_logger_alone() -> None:
    # In a process of its own: the import that would change it happens once a process.
    code = (
        "import logging; from jobs.serve.backends import load_backend; load_backend('wordllama');"
        "print(logging.root.level, logging.root.handlers)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == f"{logging.WARNING} []"


@pytest.mark.parametrize(
    ("model", "device", "says"),
    [("no-such-folder", None, "no-such-folder"), ("wordllama", "cuda", "--device cuda")],
)
def test_what_cannot_be_loaded(model: str, device: str | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_backend(model, device)
