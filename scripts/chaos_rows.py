"""The corpus of `chaos.py`, and what has become of each of its rows."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tests.servers.gpu.answers import vectors_of

DIM = 32
POISON = "<poison>"
POISONED, EMPTY = 5000, 3000  # one row in so many
MEDIAN, SIGMA, MOST = 80, 0.7, 1500  # bytes of a text
WORDS = (
    "GPU",
    "Straße",
    "naïve",
    "東京",
    "vector",
    "queue",
    "lease",
    "part",
    "row",
    "the",
    "a",
    "of",
    "hat",
    "cat",
)


@dataclass(frozen=True, slots=True)
class Found:
    """What an output holds. Each count is of rows; those after `rejects` should be 0."""

    rows: int = 0
    rejects: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    rejected: int = field(default=0, metadata={"name": "wrongly rejected"})
    accepted: int = field(default=0, metadata={"name": "not rejected"})

    @property
    def right(self) -> bool:
        return not (self.lost or self.twice or self.wrong or self.rejected or self.accepted)

    def __add__(self, other: Found) -> Found:
        return Found(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


class Rows:
    """Distinct texts of many lengths. A few must be rejected: none, an empty one, one that the server refuses."""

    def __init__(self, count: int, seed: int) -> None:
        draw = random.Random(seed)
        filler = " ".join(draw.choices(WORDS, k=1 << 16))
        texts: list[str | None] = []
        for i in range(count):
            start = draw.randrange(len(filler) - MOST)
            text = f"{i:08d} {filler[start : start + min(MOST, int(MEDIAN * draw.lognormvariate(0, SIGMA)))]}"
            if draw.randrange(POISONED) == 0:
                text += POISON
            texts.append(draw.choice((None, "")) if draw.randrange(EMPTY) == 0 else text)
        self.texts = texts
        self._bad = np.array([not text or POISON in text for text in texts])
        self._vectors = vectors_of([text or "" for text in texts], DIM)

    def write(self, folder: Path) -> None:
        """As files of both formats: the ids are positions over all of them."""
        folder.mkdir()
        third = len(self.texts) // 3
        for name, texts in (("a", self.texts[:third]), ("c", self.texts[2 * third :])):
            pq.write_table(pa.table({"text": texts}), folder / f"{name}.parquet", row_group_size=20_000)
        lines = (json.dumps({"text": text}) + "\n" for text in self.texts[third : 2 * third])
        (folder / "b.jsonl").write_text("".join(lines), encoding="utf-8")

    def check_while_running(self, out: Path) -> Found:
        """Of the parts that are there by now; rows to come are not lost. Raises when it cannot be read."""
        return self._count(*_read(out))

    def check(self, out: Path) -> Found:
        """Of every row, in a finished output. Raises when it cannot be read."""
        ids, vectors = _read(out)
        found = self._count(ids, vectors)
        files = list((out / "_rejects").glob("*.parquet"))
        rejects = np.concatenate([[], *(pq.read_table(file)["id"].to_numpy() for file in files)]).astype(np.int64)
        times = np.bincount(np.concatenate([ids, rejects]), minlength=len(self.texts))
        return Found(
            rows=found.rows,
            rejects=len(rejects),
            lost=int((times == 0).sum()),
            twice=int((times > 1).sum()),
            wrong=found.wrong,
            rejected=int((~self._bad[rejects]).sum()),
            accepted=found.accepted,
        )

    def _count(self, ids: npt.NDArray[np.int64], vectors: npt.NDArray[np.floating]) -> Found:
        times = np.bincount(ids, minlength=len(self.texts))
        expected = self._vectors[ids].astype(vectors.dtype)
        good = ~self._bad[ids]
        return Found(
            rows=len(ids),
            twice=int((times > 1).sum()),
            wrong=int((vectors != expected).any(axis=1)[good].sum()),
            accepted=int((~good).sum()),
        )


def _read(out: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]:
    """As any reader of Parquet folders sees it; a folder without a part has no rows."""
    table = ds.dataset(out, format="parquet").to_table()
    if not len(table):
        return np.empty(0, np.int64), np.empty((0, DIM), np.float32)
    vectors = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return table["id"].to_numpy(), vectors.reshape(len(table), -1)
