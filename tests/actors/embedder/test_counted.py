"""A count of tokens is believed where it can be one."""

from __future__ import annotations

import numpy as np
import pytest

from actors.embedder.batch import Batch
from actors.embedder.counted import Counted

TEXT = "twenty bytes of text"


def batch(*texts: str) -> Batch:
    return Batch(list(texts), (), np.array([len(text.encode()) for text in texts]))


@pytest.mark.parametrize(
    ("tokens", "believed"),
    [(None, False), (-1, False), (0, False), (9, False), (10, True), (70, True), (2760, True), (2761, False)],
)
def test_a_count_has_its_bounds(tokens: int | None, believed: bool) -> None:
    """Of ten texts of twenty bytes."""
    assert Counted().believed(tokens, batch(*[TEXT] * 10)) == (tokens if believed else None)


def test_what_is_put_around_a_text_is_known_from_the_shortest() -> None:
    counted = Counted()
    assert counted.believed(400, batch(*[TEXT] * 10)) == 400  # 40 around a text at most
    assert counted.believed(4000, batch(*[TEXT] * 10)) is None
    assert counted.believed(600, batch(*[TEXT] * 10)) == 600
    assert counted.believed(601, batch(*[TEXT] * 10)) is None
    assert counted.believed(1, batch("a")) is None  # as many as characters
    assert counted.believed(3, batch("a")) == 3
    assert counted.believed(17, batch("a")) == 17  # some are always allowed for
    assert counted.believed(18, batch("a")) is None


def test_characters_are_no_tokens() -> None:
    texts = batch("für das Gerät", " with blanks around it  ", "为什么天空是蓝色的")
    assert Counted().believed(13 + 21 + 9, texts) is None
    assert Counted().believed(13 + 21 + 9 - 1, texts) == 42
