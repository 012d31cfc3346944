"""`rayembed demo`: a real corpus, a real model and the whole pipeline on this machine, then a search."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from actors.embedder.client import EmbeddingClient
from actors.messages import Endpoint
from actors.output.folder import REPORT_FILE
from jobs.demo.corpus import CORPUS_LICENSE, write_sample_corpus
from jobs.demo.search import SAMPLE_QUERIES, nearest
from jobs.run import run
from jobs.serve.local import start_local_server
from jobs.settings import Settings
from jobs.summary import in_words

_HITS = 3
_SHOWN = 88  # characters of a text


def demo(folder: Path) -> int:
    """Embed the sample corpus into `folder` and search it; the exit code of the run.

    Started again, it finds the vectors there and only searches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    corpus, vectors = folder / "corpus.parquet", folder / "vectors"
    rows = write_sample_corpus(corpus)
    print(f"corpus: {rows:,} texts in {corpus} ({CORPUS_LICENSE})", file=sys.stderr)
    with start_local_server() as url:
        outcome = run(_settings(url, corpus, vectors))
        print(in_words(outcome.summary, f"{vectors}/part-*.parquet"))
        _search(url, outcome.summary.model, corpus, vectors)
    print(f"\nreport: {(vectors / REPORT_FILE).resolve().as_uri()}")
    return outcome.exit_code


def _settings(url: str, corpus: Path, vectors: Path) -> Settings:
    """Defaults, whatever config file lies around."""
    return Settings.model_validate(
        {
            "endpoints": [url],
            "input": {"paths": [str(corpus)], "id_column": "id"},
            "output": {"path": str(vectors)},
        }
    )


def _search(url: str, model: str, corpus: Path, vectors: Path) -> None:
    table = pq.read_table(corpus, columns=["id", "text"])
    texts = dict(zip(table.column("id").to_pylist(), table.column("text").to_pylist(), strict=True))
    for query, vector in zip(SAMPLE_QUERIES, _embed(url, model), strict=True):
        print(f"\nnearest to '{query}':")
        for hit in nearest(vectors, vector, _HITS):
            print(f"  {hit.score:.3f}  {' '.join(texts[str(hit.id)].split())[:_SHOWN]}")


def _embed(url: str, model: str) -> npt.NDArray[np.float32]:
    """The queries' vectors, float32[queries, dim]."""

    async def ask() -> npt.NDArray[np.float32]:
        client = EmbeddingClient(Endpoint(url, model, "openai", None))
        try:
            return (await client.embed(SAMPLE_QUERIES, None)).vectors
        finally:
            await client.aclose()

    return asyncio.run(ask())
