"""What a job would do, said before it does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import dry_run as module
from jobs.dry_run import Prices, dry_run
from jobs.settings import Settings
from tests.jobs.corpora import texts, write_parquet
from tests.jobs.embedded import embed
from tests.servers.fixture import EmbeddingServer


def settings(server: EmbeddingServer, *paths: Path, **blocks: Any) -> Settings:
    given = {"paths": [str(path) for path in paths], **blocks.pop("input", {})}
    endpoint = {"url": server.url, **blocks.pop("endpoint", {})}
    return Settings.model_validate({"endpoints": [endpoint], "input": given, "output": {"path": "out"}, **blocks})


def test_texts_are_counted_where_all_parts_are_read(server: EmbeddingServer, tmp_path: Path) -> None:
    rows: list[str | None] = [f"text {i % 700:03d}" for i in range(3000)]
    rows[5], rows[6] = None, ""
    found = dry_run(settings(server, write_parquet(tmp_path / "c.parquet", rows)))
    assert (found.rows, found.parts, found.parts_sampled, found.texts) == (3000, 6, 6, 700)
    assert found.tokens == 700 * 2  # of 8 bytes
    assert "700 different texts to send, about 1,400 tokens" in found.shown(as_json=False)


def test_texts_are_estimated_where_some_are(
    server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAMPLE_PARTS", 3)
    rows = [f"text {i // 2}" for i in range(5120)]
    found = dry_run(settings(server, write_parquet(tmp_path / "c.parquet", list(rows))))
    assert (found.parts, found.parts_sampled, found.texts, found.texts_seen) == (10, 3, 2560, 768)
    assert "or fewer" in found.shown(as_json=False)


def test_it_says_what_it_costs(server: EmbeddingServer, tmp_path: Path) -> None:
    corpus = write_parquet(tmp_path / "c.parquet", list(texts(2000)))
    without = dry_run(settings(server, corpus))
    assert (without.cost_of_tokens, without.cost_of_gpus, without.seconds_at_least) == (None, None, 0)
    quota = {"tokens_per_minute": 1000, "requests_per_minute": 1}
    found = dry_run(settings(server, corpus, endpoint=quota), Prices(2.0, 3.0))
    assert found.cost_of_tokens == pytest.approx(found.tokens / 1e6 * 2)
    assert found.seconds_at_least == pytest.approx(found.tokens / 1000 * 60, abs=0.1)
    assert found.seconds_at_most >= found.seconds_at_least
    assert found.cost_of_gpus == pytest.approx(found.seconds_at_most / 3600 * 3, rel=0.01)
    words = found.shown(as_json=False)
    assert "by the quota" in words
    assert "cost of these tokens: about" in words
    assert "cost of one GPU an endpoint for that time: at most about" in words
    assert json.loads(found.shown(as_json=True))["texts"] == 2000


def test_long_texts_count_as_what_the_model_takes_of_them(server: EmbeddingServer, tmp_path: Path) -> None:
    corpus = write_parquet(tmp_path / "c.parquet", ["x" * 4000, "y" * 40])
    assert dry_run(settings(server, corpus)).tokens == 1010
    assert dry_run(settings(server, corpus, endpoint={"tokens_per_text": 100})).tokens == 110


def test_longer_texts_take_longer_than_those_of_the_probe(server: EmbeddingServer, tmp_path: Path) -> None:
    server.behave(delay_ms=50)
    least_s = 0.9 * 1000 / 6 * 0.05  # what is said is rounded
    short = dry_run(settings(server, write_parquet(tmp_path / "s.parquet", [f"{i}" for i in range(1000)])))
    assert short.seconds_at_most > least_s
    long = dry_run(
        settings(server, write_parquet(tmp_path / "l.parquet", [f"{i} {'x' * 4000}" for i in range(1000)]))
    )
    assert long.seconds_at_most > 10 * least_s


def test_what_an_earlier_output_has_is_not_sent_again(server: EmbeddingServer, tmp_path: Path) -> None:
    rows = texts(2000)
    embed(server.url, [write_parquet(tmp_path / "old.parquet", list(rows))], tmp_path / "old")
    grown = write_parquet(tmp_path / "new.parquet", [*rows, *(f"new {i}" for i in range(20)), "new 3"])
    found = dry_run(settings(server, grown, input={"reuse": str(tmp_path / "old")}))
    assert (found.rows, found.texts) == (2021, 20)
    assert not (tmp_path / "out").exists()
