"""How many different texts there are, from all parts and from some of them."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.estimate import PartTexts, estimate

PARTS, PART_ROWS, READ = 200, 100, 20


def parts_of(texts: list[int], tokens: int = 7) -> list[PartTexts]:
    """A corpus of these texts, cut into parts."""
    numbers = np.array(texts, np.uint64).reshape(-1, PART_ROWS)
    return [PartTexts(PART_ROWS, part, np.full(PART_ROWS, tokens)) for part in numbers]


def corpus(kind: str) -> list[int]:
    random = np.random.default_rng(5)
    rows = PARTS * PART_ROWS
    return {
        "all different": [*range(rows)],
        "all the same": [0] * rows,
        "each twice, side by side": [i // 2 for i in range(rows)],
        "each twice, far apart": [i % (rows // 2) for i in range(rows)],
        "a few that are everywhere": [i if i % 10 else i % 30 for i in range(rows)],
        "as words in a language": random.zipf(1.5, rows).tolist(),
    }[kind]


KINDS = [
    "all different",
    "all the same",
    "each twice, side by side",
    "each twice, far apart",
    "a few that are everywhere",
    "as words in a language",
]


@pytest.mark.parametrize("kind", KINDS)
def test_all_parts_give_the_count(kind: str) -> None:
    texts = corpus(kind)
    found = estimate(parts_of(texts), len(texts))
    assert found.texts == found.texts_seen == len(set(texts))
    assert found.tokens == found.tokens_seen == 7 * len(set(texts))


@pytest.mark.parametrize("kind", KINDS)
def test_some_parts_give_no_less_on_average_and_no_more_than_there_are_rows(kind: str) -> None:
    texts = corpus(kind)
    parts = parts_of(texts)
    found = []
    for seed in range(40):
        drawn = np.random.default_rng(seed).choice(PARTS, READ, replace=False)
        found.append(estimate([parts[i] for i in drawn], len(texts)))
        assert found[-1].texts_seen <= len(set(texts))
        assert found[-1].tokens == 7 * found[-1].texts
    mean = np.mean([each.texts for each in found])
    assert 0.97 * len(set(texts)) <= mean <= len(texts)
    if kind in ("all different", "all the same", "each twice, side by side", "a few that are everywhere"):
        assert mean == pytest.approx(len(set(texts)), rel=0.02)


def test_parts_without_a_text() -> None:
    empty = PartTexts(10, np.zeros(0, np.uint64), np.zeros(0, np.int64))
    found = estimate([empty], 100)
    assert (found.texts, found.tokens, found.texts_seen) == (0, 0, 0)
    assert estimate([], 100).texts == 0
