"""The open window: rows go out with texts of their length, in requests that keep to their bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from actors.corpus import Rows
from actors.embedder.batch import Batch
from actors.embedder.open_part import OpenPart
from actors.embedder.window import BYTES_PER_TOKEN, Window
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


def corpus_of(count: int, seed: int = 0) -> list[str]:
    """Different texts of lognormal lengths, as texts have."""
    lengths = np.random.default_rng(seed).lognormal(np.log(240), 0.8, count).astype(int) + 10
    return [f"{seed:04d}{i:05d}".ljust(min(4096, length), "x") for i, length in enumerate(lengths)]


def test_texts_of_similar_length_go_together() -> None:
    texts = corpus_of(8192)
    batches = drain(window_of(open_part(texts)), 2048, 4096)
    in_order = [texts[i : i + 64] for i in range(0, len(texts), 64)]
    padding_in_order = sum(len(each) * max(map(len, each)) for each in in_order) / sum(map(len, texts))
    assert padding_in_order > 4
    assert sum(batch.padded_bytes for batch in batches) / sum(batch.bytes for batch in batches) < 1.2


def test_a_few_requests_in_a_row_are_a_sample_of_the_corpus() -> None:
    window = Window()
    means = []
    parts = 0
    for _ in range(40):
        while window.rows < 8192:
            parts += 1
            window.add(open_part(corpus_of(1024, parts), parts))
        some = [batch for _ in range(8) if (batch := window.take(2048, 4096))]
        means.append(sum(batch.bytes for batch in some) / sum(len(batch) for batch in some))
    assert np.std(means) / np.mean(means) < 0.4  # drawn shortest first, it would be well above 1


def test_no_text_waits_for_long_while_others_come() -> None:
    window = Window()
    window.add(open_part(["y" * 30_000], 0))  # the longest of all
    parts = 0
    while parts < 40:
        while window.rows < 4096:
            parts += 1
            window.add(open_part(corpus_of(1024, parts), parts))
        batch = window.take(2048, 8192)
        assert batch is not None
        if (0, 0) in rows_of(batch):
            return
    raise AssertionError("it still waits after forty parts")


def test_what_the_server_counts_as_a_token_sets_the_size() -> None:
    window = window_of(open_part([f"{i:0100d}" for i in range(1000)]))
    first = window.take(1000, 1000)
    for _ in range(200):
        window.calibrate(sent_bytes=1000, tokens=1000)  # a server that counts characters
    second = window.take(1000, 1000)
    assert first is not None
    assert second is not None
    assert len(first) == pytest.approx(4 * len(second), rel=0.2)


def test_rows_without_a_text_and_bad_rows_are_never_sent() -> None:
    window = window_of(open_part(["a", None, "", "bad", "b"], bad={3: "no id"}), open_part([None, ""], 1))
    assert [rows_of(batch) for batch in drain(window, 9, NO_LIMIT)] == [[(0, 0), (0, 4)]]


def test_the_bounds_may_change_from_one_request_to_the_next() -> None:
    window = window_of(open_part([str(i) for i in range(10)]))
    taken = [window.take(rows, tokens) for rows, tokens in [(5, NO_LIMIT), (1, NO_LIMIT), (2, 9), (9, NO_LIMIT)]]
    assert [len(batch) if batch else 0 for batch in taken] == [5, 1, 2, 2]
    assert window.take(9, NO_LIMIT) is None


def test_the_largest_request_is_made_of_all_that_waits() -> None:
    window = window_of(open_part(corpus_of(500)))
    window.take(2048, 4096)
    window.add(open_part(corpus_of(2000, 1), 1))
    batch = window.take(2048, 16384, largest=True)
    assert batch is not None
    assert batch.padded_bytes > 0.95 * 16384 * BYTES_PER_TOKEN
    assert len(batch) + sum(len(each) for each in drain(window, 2048, 4096)) < 2500  # the first take's
    assert {each.part.part.index for each in batch.places} == {0, 1}


def test_a_text_above_the_token_bound_goes_alone() -> None:
    window = window_of(open_part(["a", "x" * 1000, "b"]))
    assert sorted(batch.texts for batch in drain(window, 9, 5)) == [["a", "b"], ["x" * 1000]]


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


@pytest.mark.parametrize(("count", "most_rows"), [(2, 1), (2, 9), (33, 32), (64, 32), (100, 32), (7, 3)])
def test_pieces_keep_to_a_servers_limit_and_together_are_the_batch(count: int, most_rows: int) -> None:
    batch = window_of(open_part([str(i) for i in range(count)])).take(count, NO_LIMIT)
    assert batch is not None
    pieces = batch.pieces(most_rows)
    assert len(pieces) >= 2
    assert max(len(piece) for piece in pieces) <= most_rows
    assert [text for piece in pieces for text in piece.texts] == batch.texts
    assert [row for piece in pieces for row in rows_of(piece)] == rows_of(batch)


def test_a_request_bound_by_tokens_is_a_multiple_of_a_servers_batch_and_one_bound_by_rows_is_not() -> None:
    window = window_of(open_part([f"{i:0100d}" for i in range(1000)]))
    by_tokens, by_rows = window.take(2048, 2500), window.take(50, NO_LIMIT)
    assert by_tokens is not None
    assert by_rows is not None
    assert len(by_tokens) % 32 == 0
    assert len(by_rows) == 50
