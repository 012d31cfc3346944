"""Which of the counts of tokens that a server sends can be: the driver steers by them, and requests are cut so."""

from __future__ import annotations

from actors.embedder.batch import Batch

MOST_ADDED, LEAST_ADDED = 256.0, 16.0  # tokens around a text: special ones, and a prompt of the server's own


class Counted:
    """A text has no more tokens than bytes, and one at least; what a server puts around it is the same for all."""

    def __init__(self) -> None:
        self._added = MOST_ADDED

    def believed(self, tokens: int | None, batch: Batch) -> int | None:
        """`tokens`, if that can be how many the texts of `batch` have; None: it is no count."""
        texts = len(batch)
        if tokens is None or not texts <= tokens <= batch.bytes + self._added * texts:
            return None
        if 2 * tokens > batch.bytes and tokens == sum(len(text.strip()) for text in batch.texts):
            return None  # characters, as Infinity counts, seen through a gateway that hides what it is
        self._added = min(self._added, max(LEAST_ADDED, tokens / texts))
        return tokens
