"""What `verify --endpoint` says of a sample: of vectors that are the server's, nearly so, and not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.errors import UserError
from jobs.asked import note_asked
from jobs.settings import Settings
from jobs.verify import verify
from jobs.verify_vectors import Comparison, in_words, spread, verify_vectors
from tests.jobs.corpora import texts, write_jsonl, write_parquet
from tests.jobs.embedded import Vectors, embed, right
from tests.servers.fixture import EmbeddingServer
from tests.servers.in_thread import Servers, servers
from tests.servers.llamacpp_server import LlamaCpp
from tests.servers.vectors import vectors_of

__all__ = ["servers"]

ROWS = 3000


def compared(url: str, out: Path, *inputs: Path, count: int = 256, **settings: Any) -> Comparison:
    """What becomes of one endpoint."""
    found = verify_vectors(
        out, Settings.model_validate({"endpoints": [url], **settings}), tuple(map(str, inputs)), count, 0
    )
    assert len(found) == 1, in_words(found)
    return found[0]


@pytest.fixture
def corpus(tmp_path: Path) -> list[Path]:
    """Two formats, a line that is none, rows with the same text and rows without."""
    rows: list[str | None] = list(texts(ROWS))
    rows[10], rows[11], rows[12] = None, "", rows[13]
    lines = write_jsonl(tmp_path / "b.jsonl", list(texts(ROWS, seed=1)))
    lines.write_text("broken\n" + lines.read_text())
    return [write_parquet(tmp_path / "a.parquet", rows), lines]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_of_the_same_model_in_any_batch(
    server: EmbeddingServer, tmp_path: Path, corpus: list[Path], dtype: str
) -> None:
    random = np.random.default_rng(3)

    def nearly(sent: list[str]) -> Vectors:
        """As far off as bfloat16 makes them."""
        return (right(sent) * (1 + random.normal(scale=0.004, size=(len(sent), 32)))).astype(np.float32)

    out = tmp_path / "out"
    embed(server.url, corpus, out, nearly, rejected=(5, 600, 3500), output={"dtype": dtype})
    assert verify(out).ok
    server.reset()
    found = compared(server.url, out)
    assert not found.problems, in_words([found])
    assert "below 0.99" in found.words
    assert " 0.0% below" in found.words
    assert 230 <= server.stats()["distinct_texts"] <= 256 + 6
    everything = compared(server.url, out, count=10**6)
    assert f"{2 * ROWS + 1 - 6:,} rows of 12 parts embedded again" in everything.words
    assert not everything.problems


def test_another_model_is_found_and_the_first_row_named(
    server: EmbeddingServer, tmp_path: Path, corpus: list[Path]
) -> None:
    embed(server.url, corpus, tmp_path / "out")
    server.behave(salt="another model: ")
    found = compared(server.url, tmp_path / "out")
    (problem,) = found.problems
    assert problem.file == "part-00000-000000000000.parquet"
    assert problem.row is not None
    assert server.url in problem.what
    assert "100.0% below 0.99" in found.words


def test_one_part_of_another_model_is_found(server: EmbeddingServer, tmp_path: Path, corpus: list[Path]) -> None:
    calls = iter(range(100))

    def wrong(sent: list[str]) -> Vectors:
        salt = "x" if next(calls) == 2 else ""
        return vectors_of([salt + text for text in sent], 32)

    embed(server.url, corpus, tmp_path / "out", wrong)
    (problem,) = compared(server.url, tmp_path / "out", count=12).problems  # one in each part
    assert problem.file == "part-00000-000000001024.parquet"
    assert "for 1 of 12 rows" in problem.what


def test_another_dimension_and_another_length(server: EmbeddingServer, tmp_path: Path, corpus: list[Path]) -> None:
    embed(server.url, corpus, tmp_path / "out")
    server.behave(length=2.0)
    (problem,) = compared(server.url, tmp_path / "out").problems
    assert "of length 2, here it is 1, and so for 25" in problem.what
    server.behave(length=1.0, dim=48)
    (problem,) = compared(server.url, tmp_path / "out").problems
    assert problem.file == "part-00000-000000000000.parquet"
    assert "48 dimensions, here are 32" in problem.what


def test_texts_are_sent_as_the_run_sent_them(server: EmbeddingServer, tmp_path: Path, corpus: list[Path]) -> None:
    server.behave(shortens="cut", length=3.0)

    def shortened(sent: list[str]) -> Vectors:
        cut = vectors_of(sent, 32)[:, :8]
        return cut / np.linalg.norm(cut, axis=1, keepdims=True)

    asked = {"prompt": "passage: ", "dimensions": 8, "normalize": "yes"}
    embed(server.url, corpus, tmp_path / "out", shortened, vectors=asked)
    found = compared(server.url, tmp_path / "out")
    assert not found.problems, in_words([found])


def test_every_endpoint_is_compared_for_itself(server: EmbeddingServer, tmp_path: Path, corpus: list[Path]) -> None:
    embed(server.url, corpus, tmp_path / "out")
    with EmbeddingServer(salt="swapped") as swapped:
        settings = Settings.model_validate({"endpoints": [server.url, swapped.url]})
        right_one, wrong_one = verify_vectors(tmp_path / "out", settings, (), 64, 0)
        assert not right_one.problems
        assert swapped.url in wrong_one.problems[0].what


def test_texts_that_the_server_now_refuses_are_counted_and_not_compared(
    server: EmbeddingServer, tmp_path: Path, corpus: list[Path]
) -> None:
    embed(server.url, corpus, tmp_path / "out")
    server.behave(poison="vector")
    found = compared(server.url, tmp_path / "out")
    assert not found.problems
    assert " texts refused" in found.words


def test_texts_that_are_cut_before_they_are_sent_are_left_out(servers: Servers, tmp_path: Path) -> None:
    """Where they were cut then depends on what was known by then of the server's tokens."""
    url = servers.start(LlamaCpp(n_ubatch=50))
    rows = texts(300)
    too_long = [row for row in rows if len(row.split()) + 2 > 50]

    def cut_elsewhere(sent: list[str]) -> Vectors:
        return right([text[:50] if text in too_long else text for text in sent])

    embed(url, [write_parquet(tmp_path / "a.parquet", list(rows))], tmp_path / "out", cut_elsewhere)
    found = compared(url, tmp_path / "out", count=1000)
    assert not found.problems, in_words([found])
    assert f"{300 - len(too_long)} rows of 1 part embedded again" in found.words
    assert f"{len(too_long)} texts too long, which may have been cut elsewhere" in found.words


def test_input_is_found_again_where_it_is_now(server: EmbeddingServer, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_parquet(tmp_path / "in" / "a.parquet", list(texts(900)))
    write_parquet(tmp_path / "in" / "b.parquet", list(texts(900, seed=1)))
    embed(server.url, [tmp_path / "in"], tmp_path / "in" / "out")  # which is no input
    out = tmp_path / "in" / "out"
    assert not compared(server.url, out).problems
    (tmp_path / "in").rename(tmp_path / "moved")
    out = tmp_path / "moved" / "out"
    with pytest.raises(UserError, match=r"input not found: .*name it with --input PATH"):
        compared(server.url, out)
    assert not compared(server.url, out, tmp_path / "moved").problems
    write_parquet(tmp_path / "moved" / "b.parquet", list(texts(900, seed=2)))
    with pytest.raises(UserError, match=r"input file b\.parquet: its content changed"):
        compared(server.url, out, tmp_path / "moved")


def test_without_a_note_of_the_input_it_has_to_be_named(
    server: EmbeddingServer, tmp_path: Path, corpus: list[Path]
) -> None:
    out = tmp_path / "out"
    embed(server.url, corpus, out)
    (out / "_asked.json").unlink()
    with pytest.raises(UserError, match="does not say where its input was; name it with --input PATH"):
        compared(server.url, out)
    assert not compared(server.url, out, *corpus).problems
    for part in out.glob("part-*"):
        part.unlink()
    with pytest.raises(UserError, match="has no vector yet"):
        compared(server.url, out, *corpus)


def test_the_note_keeps_no_signature(tmp_path: Path) -> None:
    paths = ["https://host/a.parquet?signature=secret", "relative/*.parquet"]
    note_asked(tmp_path, Settings.model_validate({"input": {"paths": paths}}))
    noted = json.loads((tmp_path / "_asked.json").read_text())
    assert noted["paths"] == ["https://host/a.parquet", str(Path.cwd() / "relative/*.parquet")]


@pytest.mark.parametrize("count", [1, 7, 40, 41, 300, 10**5])
def test_a_sample_is_spread_over_all_parts(count: int) -> None:
    rows = np.array([1, 900, 3, *[100] * 37])
    parts, places = spread(rows, count, np.random.default_rng(1))
    assert ((places >= 0) & (places < rows[parts])).all()
    assert len(set(zip(parts.tolist(), places.tolist(), strict=True))) == len(parts) <= count
    assert (np.diff(parts) >= 0).all()
    if count < 40:
        assert len(parts) == count
        assert np.bincount(parts * count // 40).tolist() == [1] * count, "one in each stretch"
    else:
        assert np.unique(parts).tolist() == list(range(40))
    again = spread(rows, count, np.random.default_rng(1))
    assert np.array_equal(again[0], parts)


def test_the_command(rayembed, server, tmp_path, corpus):
    embed(server.url, corpus, tmp_path / "out")
    command = ("verify", "out", "--endpoint", server.url, "--sample", 50, "--api-key-env", "TEST_KEY")
    server.behave(api_key="the-key")
    same = rayembed(*command, TEST_KEY="the-key")
    assert same.wait() == 0, same.out + same.err
    lines = same.out.splitlines()
    assert lines[0].startswith("OK: ")
    assert lines[-1].startswith(f"{server.url}: ")
    server.behave(salt="swapped")
    swapped = rayembed(*command, TEST_KEY="the-key")
    assert swapped.wait() == 1
    assert "not the model of then" in swapped.out
    assert "the-key" not in swapped.out + swapped.err
    wrong_key = rayembed(*command, TEST_KEY="no")
    assert wrong_key.wait() == 1
    assert "TEST_KEY" in wrong_key.err
