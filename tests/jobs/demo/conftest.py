from __future__ import annotations

from pathlib import Path

import pytest

from jobs.demo.corpus import write_sample_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample corpus of the Python that runs the tests."""
    path = tmp_path_factory.mktemp("corpus") / "new" / "folder" / "corpus.parquet"
    write_sample_corpus(path)
    return path
