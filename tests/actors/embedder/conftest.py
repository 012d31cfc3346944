"""What the tests of the embedder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.corpora import texts, write_parquet


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between two attempts, no look for a GPU."""
    monkeypatch.setattr("actors.embedder.delivery._backoff", lambda _: 0.001)
    monkeypatch.setattr("actors.embedder.line._look_again", lambda _: 0.001)
    monkeypatch.setattr("actors.embedder.embedder.open_gauge", lambda _: None)


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[list[str], Path]:
    """2,000 texts, and the Parquet file that holds them."""
    rows = texts(2000)
    return rows, write_parquet(tmp_path / "corpus.parquet", list(rows))
