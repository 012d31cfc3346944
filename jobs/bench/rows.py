"""What a test embeds when it is given no input: as much real text as it takes, no text twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.demo.corpus import write_sample_corpus

MOST_ROWS = 1_000_000  # that a test writes
_CHUNK_ROWS = 50_000


class SampleRows:
    """The demo's corpus as a pool to draw from: in an order that makes any beginning a fair sample of it."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where files go."""
        self._folder = folder
        whole = folder / "sample.parquet"
        write_sample_corpus(whole)
        texts = pq.read_table(whole, columns=["text"]).column("text").combine_chunks()
        self._texts: pa.StringArray = texts.take(pa.array(np.random.default_rng(0).permutation(len(texts))))
        whole.unlink()

    def write(self, rows: int) -> Path:
        """A Parquet file with so many rows in its column `text`.

        From the second time on, a text begins with a number: a text that had been sent already would not be again.
        """
        path = self._folder / f"sample-{rows}.parquet"
        with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
            for start in range(0, rows, _CHUNK_ROWS):
                texts = [self._text(place) for place in range(start, min(rows, start + _CHUNK_ROWS))]
                writer.write_table(pa.table({"text": pa.array(texts, pa.string())}))
        return path

    def _text(self, place: int) -> str:
        time, row = divmod(place, len(self._texts))
        text: str = self._texts[row].as_py()
        return f"{time + 1}. {text}" if time else text
