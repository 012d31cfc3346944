from __future__ import annotations

import pytest

from jobs.serve.backends import Backend, load_backend


@pytest.fixture(scope="session")
def wordllama() -> Backend:
    return load_backend("wordllama")
