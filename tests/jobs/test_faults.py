"""Whole runs in which something breaks for good: an endpoint, the disk. And a key that shows nowhere."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import eventually
from tests.jobs.corpora import assert_right, read_out, texts, write_parquet
from tests.servers.fixture import EmbeddingServer

SMALL = ("--concurrency", 4, "--batch-size", 64)


def test_what_a_dead_endpoint_had_is_done_by_the_other(
    rayembed: Any, server: EmbeddingServer, tmp_path: Path
) -> None:
    rows = texts(12_000)
    corpus = write_parquet(tmp_path / "c.parquet", list(rows))
    server.behave(texts_per_s=3000)
    with EmbeddingServer(texts_per_s=3000, hold_after=1000) as other:
        endpoints = ("--endpoint", server.url, "--endpoint", other.url)
        run = rayembed("run", corpus, "-o", "out", *endpoints, "--json", *SMALL)
        eventually(lambda: other.stats()["held"])
        other.kill()
        assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)
    summary = run.summary()
    assert (summary["rows_embedded"], summary["rows_rejected"]) == (12_000, 0)
    assert summary["errors"]["starting"] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_named_and_what_is_there_still_reads(
    rayembed: Any, server: EmbeddingServer, tmp_path: Path, small_disk: Path
) -> None:
    server.behave(dim=256)
    corpus = write_parquet(tmp_path / "c.parquet", list(texts(8000)))
    run = rayembed("run", corpus, "-o", small_disk / "out", "--endpoint", server.url, *SMALL)
    assert run.wait() == 1
    assert "No space left on device" in run.err
    assert "Traceback" not in run.err
    assert read_out(small_disk / "out").num_rows > 0


def test_a_key_shows_in_no_log_and_no_process(rayembed: Any, server: EmbeddingServer, tmp_path: Path) -> None:
    key = "sk-a-secret-that-shows-nowhere"
    server.behave(api_key=key, texts_per_s=4000, poison="text 7")
    corpus = write_parquet(tmp_path / "c.parquet", [f"text {i}" for i in range(8000)])
    with tempfile.TemporaryDirectory(prefix="ray") as logs:  # short: Ray puts sockets there
        run = rayembed(
            *("run", corpus, "-o", "out", "--endpoint", server.url, "--api-key-env", "TEST_KEY", *SMALL),
            own_ray=True,
            TEST_KEY=key,
            RAY_TMPDIR=logs,
        )
        eventually(lambda: server.stats()["texts"] > 1000)
        titles = [" ".join(each.cmdline()) for each in psutil.Process().children(recursive=True)]
        assert run.wait() == 3, run.err
        written = [
            path.read_bytes() for folder in (tmp_path, Path(logs)) for path in folder.rglob("*") if _is_file(path)
        ]
    assert any("EmbedderActor" in title for title in titles)
    assert len(written) > 20
    assert not any(key in title for title in titles)
    assert not any(key.encode() in content for content in written)
    assert key not in run.out + run.err


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
