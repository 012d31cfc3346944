"""The open window: every row goes out once, in input order, in requests that keep to their bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.corpus import Rows
from actors.embedder.open_part import OpenPart
from actors.embedder.window import Batch, Window
from actors.messages import Part

NO_LIMIT = 1 << 30


def open_part(texts: Sequence[str | None], index: int = 0, bad: dict[int, str] | None = None) -> OpenPart:
    part = Part(index, f"part-{index}", 0, 0, len(texts))
    return OpenPart(part, Rows(list(texts), None, (), bad or {}), 1, "float32")


def window_of(*parts: OpenPart) -> Window:
    window = Window()
    for part in parts:
        window.add(part)
    return window


def drain(window: Window, most_rows: int, most_tokens: int) -> list[Batch]:
    batches = []
    while batch := window.take(most_rows, most_tokens):
        batches.append(batch)
    return batches


def rows_of(batch: Batch) -> list[tuple[int, int]]:
    """(part, row) of each text, in the batch's order."""
    return [(each.part.part.index, int(row)) for each in batch.places for row in each.rows]


def placed(part: OpenPart) -> list[float]:
    return [float(value) for value in part._vectors[:, 0]]


async def waits(event: asyncio.Task[bool]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not event.done()


TEXTS = st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=40)), max_size=30)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=5), st.integers(1, 12), st.integers(1, 30))
def test_every_sendable_row_once_in_order_within_the_bounds(
    corpus: list[list[str | None]], most_rows: int, most_tokens: int
) -> None:
    parts = [open_part(texts, i) for i, texts in enumerate(corpus)]
    window = window_of(*parts)
    expected = [(i, row) for i, texts in enumerate(corpus) for row, text in enumerate(texts) if text]
    assert window.rows == len(expected)

    batches = drain(window, most_rows, most_tokens)

    assert [place for batch in batches for place in rows_of(batch)] == expected
    for batch in batches:
        assert batch.texts == [corpus[part][row] for part, row in rows_of(batch)]
        costs = [-(-len(text.encode()) // 4) for text in batch.texts]
        assert 1 <= len(batch) <= most_rows
        assert sum(costs) <= most_tokens or len(batch) == 1
    # no request is cut short: it ends at a bound, or where the rows end
    for batch, following in pairwise(batches):
        more = sum(-(-len(text.encode()) // 4) for text in [*batch.texts, following.texts[0]])
        assert len(batch) == most_rows or more > most_tokens
    assert window.rows == 0


def test_a_request_reaches_over_the_end_of_a_part() -> None:
    window = window_of(open_part(["a", "b", "c"], 0), open_part(["d", "e", "f"], 1))
    assert [batch.texts for batch in drain(window, 2, NO_LIMIT)] == [["a", "b"], ["c", "d"], ["e", "f"]]


def test_rows_without_a_text_and_bad_rows_are_never_sent() -> None:
    window = window_of(open_part(["a", None, "", "bad", "b"], bad={3: "no id"}), open_part([None, ""], 1))
    assert [rows_of(batch) for batch in drain(window, 9, NO_LIMIT)] == [[(0, 0), (0, 4)]]


def test_the_bounds_may_change_from_one_request_to_the_next() -> None:
    window = window_of(open_part([str(i) for i in range(10)]))
    taken = [window.take(rows, tokens) for rows, tokens in [(3, NO_LIMIT), (1, NO_LIMIT), (9, 2), (9, NO_LIMIT)]]
    assert [len(batch) if batch else 0 for batch in taken] == [3, 1, 2, 4]
    assert window.take(9, NO_LIMIT) is None


def test_a_text_above_the_token_bound_goes_alone() -> None:
    window = window_of(open_part(["a", "x" * 1000, "b"]))
    assert [batch.texts for batch in drain(window, 9, 5)] == [["a"], ["x" * 1000], ["b"]]


def test_vectors_reach_the_rows_of_their_texts_however_the_batch_is_halved() -> None:
    parts = [open_part(["0", None, "2"], 0), open_part(["", "4"], 1), open_part(["5", "6", "7"], 2)]
    batch = window_of(*parts).take(9, NO_LIMIT)
    assert batch is not None
    alone: list[Batch] = []

    def halve(each: Batch) -> None:
        if len(each) == 1:
            alone.append(each)
        else:
            left, right = each.halves()
            assert left.texts + right.texts == each.texts
            assert abs(len(left) - len(right)) <= 1
            halve(left)
            halve(right)

    halve(batch)
    assert [each.texts for each in alone] == [["0"], ["2"], ["4"], ["5"], ["6"], ["7"]]
    for each in alone[:-1]:
        each.place(np.array([[float(each.texts[0])]], np.float32))
    alone[-1].refuse("bad_request", 400, "no")
    assert (placed(parts[0])[0], placed(parts[0])[2], placed(parts[1])[1]) == (0, 2, 4)
    assert placed(parts[2])[:2] == [5, 6]
    assert [part.complete for part in parts] == [True, True, True]
    assert [sorted(part._rejects) for part in parts] == [[1], [0], [2]]


async def test_whoever_waits_is_woken_by_rows_and_by_the_end() -> None:
    window = Window()
    waiting = [asyncio.create_task(window.something()) for _ in range(2)]
    assert await waits(waiting[0])
    window.add(open_part([None, ""]))  # nothing to send in it
    assert await waits(waiting[0])
    window.add(open_part(["a"], 1))
    assert await asyncio.gather(*waiting) == [True, True]

    assert window.take(9, NO_LIMIT) is not None
    late = asyncio.create_task(window.something())
    assert await waits(late)
    window.close()
    assert await late is False


async def test_what_is_left_when_the_window_closes_wakes_nobody_again() -> None:
    window = window_of(open_part(["a"]))
    window.close()
    assert await window.something() is False
    window.add(open_part(["b"], 1))
    assert await window.something() is False
    assert window.closed
