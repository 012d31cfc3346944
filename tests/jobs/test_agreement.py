"""An index of two models' vectors finds nothing: endpoints that disagree are not taken into one output."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.agreement import LEAST_COSINE, least_cosine, odd_one

DRAW = np.random.default_rng(7)


def vectors(texts: int = 6, dim: int = 64) -> np.ndarray:
    return DRAW.standard_normal((texts, dim)).astype(np.float32)


def turned(some: np.ndarray, cosine: float) -> np.ndarray:
    """Vectors whose first one has this cosine to the first of `some`; the others are the same."""
    first = some[0] / np.linalg.norm(some[0])
    other = DRAW.standard_normal(len(first))
    other -= (other @ first) * first
    other /= np.linalg.norm(other)
    changed = some.copy()
    changed[0] = cosine * first + np.sqrt(1 - cosine**2) * other
    return changed


def test_precision_and_length_make_no_difference() -> None:
    some = vectors()
    assert odd_one([some, some.astype(np.float16).astype(np.float32), 20 * some]) is None


@pytest.mark.parametrize("cosine", [0.9985, 0.5, -1.0])
def test_one_text_that_differs_is_enough(cosine: float) -> None:
    some = vectors()
    found = odd_one([some, some, turned(some, cosine)])
    assert found
    assert found[:2] == (0, 2)
    assert found[2] == pytest.approx(cosine, abs=1e-5)


def test_the_limit_is_of_the_least_alike() -> None:
    some = vectors()
    assert least_cosine(some, turned(some, 0.9995)) == pytest.approx(0.9995, abs=1e-5)
    assert odd_one([some, turned(some, LEAST_COSINE + 0.0002)]) is None


def test_one_server_agrees_with_itself() -> None:
    assert odd_one([vectors()]) is None
