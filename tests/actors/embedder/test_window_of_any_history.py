"""Rows from window to vector, whatever is added, asked for and cut in between: each once, and to its own place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.corpus import Rows
from actors.embedder.batch import Batch
from actors.embedder.open_part import OpenPart
from actors.embedder.window import Window
from actors.messages import Part
from tests.examples import examples

STALE = 1.05  # bounds in tokens are kept to but for so much, while the length of a token is being learnt


@dataclass(frozen=True)
class Add:
    texts: Sequence[str | None]  # None, "" or what is added to a text of its own


@dataclass(frozen=True)
class Take:
    most_rows: int
    most_tokens: int
    largest: bool


@dataclass(frozen=True)
class Learn:
    sent_bytes: int
    tokens: int
    times: int


@dataclass(frozen=True)
class GiveBack:
    """What was taken last could not be sent."""


@dataclass
class Story:
    """A window, the parts that were added, and the batches that were taken."""

    window: Window = field(default_factory=Window)
    parts: list[OpenPart] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)

    def add(self, texts: Sequence[str | None]) -> None:
        number = len(self.parts)
        own = [text and f"{number}/{row} {text}" for row, text in enumerate(texts)]
        self.parts.append(OpenPart(Part(number, "part", 0, 0, len(own)), Rows(own, None, ()), 1, "float32"))
        self.window.add(self.parts[-1])

    def take(self, take: Take) -> bool:
        waiting = self.window.rows
        batch = self.window.take(take.most_rows, take.most_tokens, largest=take.largest)
        assert (batch is None) == (waiting == 0)
        if batch is None:
            return False
        assert self.window.rows == waiting - len(batch)
        lengths = [len(text.encode()) for text in batch.texts]
        most_bytes = take.most_tokens * self.window.bytes_per_token * STALE
        assert 1 <= len(batch) <= take.most_rows
        assert batch.padded_bytes <= most_bytes or len(batch) == 1
        assert (batch.lengths.tolist(), batch.bytes) == (lengths, sum(lengths))
        assert batch.padded_bytes == len(batch) * max(lengths)
        self.batches.append(batch)
        return True

    def give_back(self) -> None:
        if self.batches:
            waiting, batch = self.window.rows, self.batches.pop()
            self.window.give_back(batch)
            assert self.window.rows == waiting + len(batch)


def pieces_of(batch: Batch, data: st.DataObject) -> list[Batch]:
    """The batch as it may be cut by the lane; checks that nothing is lost."""
    if data.draw(st.sampled_from([False, False, True])):
        texts, batch = batch.texts, batch.by_length()
        assert (sorted(batch.texts), batch.lengths.tolist()) == (sorted(texts), sorted(batch.lengths))
    how = data.draw(st.sampled_from(["whole", "halves", "pieces"])) if len(batch) > 1 else "whole"
    if how == "whole":
        return [batch]
    most_rows = data.draw(st.integers(1, len(batch) + 1))
    pieces = list(batch.halves()) if how == "halves" else batch.pieces(most_rows)
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= (-(-len(batch) // 2) if how == "halves" else most_rows)
    assert [text for piece in pieces for text in piece.texts] == batch.texts
    assert np.concatenate([piece.lengths for piece in pieces]).tolist() == batch.lengths.tolist()
    return [smaller for piece in pieces for smaller in pieces_of(piece, data)]


def value_of(text: str) -> float:
    part, row = text.split()[0].split("/")
    return 1000.0 * int(part) + int(row)


added = st.lists(
    st.sampled_from([None, ""]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=30
)
take = st.builds(Take, st.sampled_from([12, 3]), st.sampled_from([60, 10]), st.sampled_from([False, False, True]))
learn = st.builds(Learn, st.integers(1, 99), st.integers(1, 99), st.integers(1, 9))


@examples(400)
@given(st.lists(st.builds(Add, added) | take | learn | st.builds(GiveBack), max_size=12), take, st.data())
def test_each_row_goes_out_once_within_the_bounds_and_gets_its_own_vector(
    steps: list[Add | Take | Learn | GiveBack], last: Take, data: st.DataObject
) -> None:
    story = Story()
    for each in steps:
        match each:
            case Add(texts):
                story.add(texts)
            case GiveBack():
                story.give_back()
            case Take():
                story.take(each)
            case Learn(sent_bytes, tokens, times):
                for _ in range(times):
                    story.window.calibrate(sent_bytes, tokens)
    while story.take(last):
        pass

    refused = set()
    pieces = [piece for batch in story.batches for piece in pieces_of(batch, data)]
    for piece in data.draw(st.permutations(pieces)):
        values = [value_of(text) for text in piece.texts]
        if data.draw(st.sampled_from([True, True, True, False])):
            piece.place(np.array(values, np.float32)[:, np.newaxis])
        else:
            piece.refuse("bad_request", 400, "no")
            refused.update(values)
    for number, part in enumerate(story.parts):
        assert part.complete, "so many vectors and rejects came as there are rows to send"
        for row in part.sendable.tolist():
            value = 1000.0 * number + row
            assert (row in part._rejects) == (value in refused)
            assert value in refused or part._vectors[row, 0] == value
