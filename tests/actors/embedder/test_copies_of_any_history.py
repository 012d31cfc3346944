"""Texts that stand in many rows, whatever becomes of requests and parts: each row has what became of its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.corpus import Rows
from actors.embedder import open_part as module
from actors.embedder.batch import Batch
from actors.embedder.blocks import Blocks
from actors.embedder.copies import Copies, Tally
from actors.embedder.kept import Kept
from actors.embedder.open_part import OpenPart
from actors.embedder.window import Window
from actors.messages import Part
from tests.examples import examples

DIM = 2
ROW_BYTES = 4 * DIM
HUGE = 7  # the text of this number has a vector that float16 cannot hold
TEXTS = [chr(ord("a") + number) * (1 + number % 3) for number in range(10)]

Fate = tuple[str, bool]  # why it was rejected ("": not at all), and whether its text was cut


def vector_of(text: str) -> list[float]:
    number = TEXTS.index(text)
    return [1e5 if number == HUGE else number + 1, -1]


@dataclass
class Story:
    """A window with its copies, the parts that are open, and the batches that are on their way."""

    dtype: str
    slots: int
    kept: Kept = field(init=False)
    copies: Copies = field(init=False)
    window: Window = field(init=False)
    tallies: list[Tally] = field(init=False)
    blocks: Blocks = field(default_factory=Blocks)
    open: list[tuple[OpenPart, list[str | None]]] = field(default_factory=list)
    sent: list[Batch] = field(default_factory=list)
    fates: dict[str, set[Fate]] = field(default_factory=dict)  # of each text, whenever it was answered
    parts = answered = vectors = cut = 0

    def __post_init__(self) -> None:
        row_bytes = DIM * np.dtype(self.dtype).itemsize
        self.kept = Kept(self.slots * row_bytes, DIM, self.dtype)
        self.copies = Copies(self.kept)
        self.window = Window(self.copies)
        self.tallies = [self.window.tally() for _ in range(2)]

    def add(self, texts: list[str | None]) -> None:
        part = Part(self.parts, "part", 0, 0, len(texts))
        opened = OpenPart(part, Rows(list(texts), None, ()), DIM, self.dtype, self.blocks)
        self.parts += 1
        self.open.append((opened, texts))
        self.window.add(opened)

    def take(self, most_rows: int) -> bool:
        batch = self.window.take(most_rows, 1 << 20)
        if batch is None:
            return False
        settled = {
            texts[row]
            for part, texts in self.open
            for row in self.copies._firsts[self.copies._number_of[part]].tolist()
            if part.settled_by(row)
        }
        on_its_way = [text for each in self.sent for text in each.texts]
        assert len(set(batch.texts)) == len(batch.texts)
        assert not settled.intersection(batch.texts), "what is known is not asked again"
        assert not set(on_its_way).intersection(batch.texts), "no text is on its way twice"
        self.sent.append(batch)
        return True

    def answer(self, batch: Batch, how: str, tally: Tally) -> None:
        if how == "back":
            self.window.give_back(batch)
            return
        cut = np.array([how == "cut" and i % 2 == 0 for i in range(len(batch))])
        for text, is_cut in zip(batch.texts, cut.tolist(), strict=True):
            beyond = self.dtype == "float16" and TEXTS.index(text) == HUGE
            reason = "no" if how == "refuse" else "beyond_float16" if beyond else ""
            self.fates.setdefault(text, set()).add((reason, is_cut and not beyond))
            self.answered += not reason
        if how == "refuse":
            self.window.refuse(batch, "no", 400, "for a reason")
        else:
            vectors = np.array([vector_of(text) for text in batch.texts], np.float32)
            self.window.place(batch, vectors, tally, cut if how == "cut" else None)

    def close_complete(self) -> None:
        """As when a part is written."""
        for part, texts in [each for each in self.open if each[0].complete]:
            self.open = [each for each in self.open if each[0] is not part]
            self.check(part, texts)
            self.window.forget(part)
            if "_block" in part.__dict__:
                part._block[:] = 0xEE  # memory that others use from now on
            part.close()

    def check(self, part: OpenPart, texts: Sequence[str | None]) -> None:
        for row, text in enumerate(texts):
            reject = part.reject_of(row)
            if not text:
                assert reject is not None
                continue
            assert ((reject.reason if reject else ""), part.is_cut(row)) in self.fates[text]
            if reject is None:
                assert part._vectors[row].tolist() == vector_of(text)
                self.vectors += 1
                self.cut += part.is_cut(row)
            elif reject.reason != "beyond_float16":
                assert (reject.row, reject.status, reject.detail) == (row, 400, "for a reason")

    def check_memory(self) -> None:
        """No more is remembered than of rows that are open and of what is kept."""
        rows = sum(part.part.rows for part, _ in self.open)
        assert len(self.copies._first) <= rows + self.slots
        assert sum(map(len, self.copies._waiting.values())) <= rows
        assert len(self.copies._sources) == 1 + len(self.copies._number_of) == 1 + len(self.open)
        assert self.kept._text_bytes == sum(len(self.kept._texts[slot]) for slot in self.kept._digests)


def pieces_of(batch: Batch, data: st.DataObject) -> list[Batch]:
    how = data.draw(st.sampled_from(["whole", "halves", "by length"])) if len(batch) > 1 else "whole"
    if how == "by length":
        batch = batch.by_length()
    return [piece for half in batch.halves() for piece in pieces_of(half, data)] if how == "halves" else [batch]


added = st.lists(st.sampled_from([None, "", *TEXTS]), max_size=12)
steps = st.lists(st.tuples(st.sampled_from(["add", "take", "answer", "close"]), added), max_size=24)
fates = st.sampled_from(["place", "place", "cut", "refuse", "back"])


def play(story: Story, history: list[tuple[str, list[str | None]]], data: st.DataObject) -> None:
    for step, texts in history:
        match step:
            case "add":
                story.add(texts)
            case "take":
                story.take(data.draw(st.integers(1, 6)))
            case "answer" if story.sent:
                batch = story.sent.pop(data.draw(st.integers(0, len(story.sent) - 1)))
                for piece in pieces_of(batch, data):
                    story.answer(piece, data.draw(fates), data.draw(st.sampled_from(story.tallies)))
            case "close":
                story.close_complete()
        story.check_memory()
    while story.sent or story.take(5):
        story.answer(story.sent.pop(), "place", story.tallies[0])
    assert all(part.complete for part, _ in story.open), "nobody waits for what has come"
    story.close_complete()
    story.check_memory()


@examples(400)
@given(steps, st.data(), st.sampled_from(["float32", "float16"]), st.sampled_from([0, 1, 3, 40]))
def test_each_row_has_what_became_of_its_text(
    history: list[tuple[str, list[str | None]]], data: st.DataObject, dtype: str, slots: int
) -> None:
    story = Story(dtype, slots)
    play(story, history, data)
    assert not story.open
    assert sum(tally.texts for tally in story.tallies) == story.answered
    assert sum(tally.rows for tally in story.tallies) == story.vectors
    assert sum(tally.truncated for tally in story.tallies) >= story.cut


@examples(100)
@given(steps, st.data())
def test_texts_with_the_same_digest_are_not_taken_for_the_same(
    history: list[tuple[str, list[str | None]]], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "digest", lambda text: bytes([len(text)]))
        patch.setattr(Story, "take", lambda self, rows: _take_unchecked(self, rows))
        play(Story("float32", 3), history, data)


def _take_unchecked(story: Story, most_rows: int) -> bool:
    """Texts that only look the same may be on their way beside each other."""
    batch = story.window.take(most_rows, 1 << 20)
    story.sent += [batch] if batch else []
    return batch is not None
