"""What a person can get wrong: one line that names it, an exit code, no traceback, no Ray started."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.corpora import texts, write_parquet


@pytest.fixture
def refused(rayembed, tmp_path):
    """Runs, and gives the one line on stderr; checks that nothing was promised."""

    def run(*arguments: object, code: int = 2, **environment: str) -> str:
        command = rayembed("run", *arguments, own_ray=True, **environment)
        assert command.wait() == code, command.err
        assert command.out == ""
        assert "Traceback" not in command.err
        assert not list(tmp_path.glob("out/part-*"))
        said = [line for line in command.err.splitlines() if not line.startswith("waiting for")]
        assert len(said) == 1
        return said[0]

    return run


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "in").mkdir()


@pytest.fixture
def corpus(tmp_path):
    return write_parquet(tmp_path / "c.parquet", list(texts(20)))


def test_missing_file(refused, server):
    assert "nothing-here.parquet" in refused("nothing-here.parquet", "-o", "out", "--endpoint", server.url)


def test_missing_text_column_names_the_columns_there_are(refused, server, corpus):
    said = refused(corpus, "-o", "out", "--endpoint", server.url, "--text-column", "body")
    assert "body" in said
    assert "its columns are: text" in said


def test_text_column_that_is_no_text(refused, server, tmp_path):
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "n.parquet")
    assert "int64" in refused("n.parquet", "-o", "out", "--endpoint", server.url)


def test_empty_corpus(refused, server, tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "e.parquet")
    assert "no rows" in refused("e.parquet", "-o", "out", "--endpoint", server.url)
    (tmp_path / "e.jsonl").write_text("\n\n")
    assert "no rows" in refused("e.jsonl", "-o", "out", "--endpoint", server.url)


def test_not_parquet_at_all(refused, server, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"rubbish" * 100)
    assert "x.parquet" in refused("x.parquet", "-o", "out", "--endpoint", server.url)


def test_a_truncated_file_among_good_ones_is_named(refused, server, tmp_path):
    for name in ("a", "b", "c"):
        write_parquet(tmp_path / "in" / f"{name}.parquet", list(texts(2000)))
    truncated = tmp_path / "in/b.parquet"
    truncated.write_bytes(truncated.read_bytes()[:-1000])
    assert "in/b.parquet is not a readable Parquet file" in refused("in", "-o", "out", "--endpoint", server.url)
    assert server.stats()["requests"] == 0


def test_mixed_schemas_in_one_folder(refused, server, tmp_path):
    command = ("in", "-o", "out", "--endpoint", server.url)
    ids: list[object] = [*range(20)]
    write_parquet(tmp_path / "in/a.parquet", list(texts(20)), n=ids)
    pq.write_table(pa.table({"n": [f"{i}" for i in ids], "body": texts(20)}), tmp_path / "in/b.parquet")
    assert "text is not in b.parquet; its columns are: n, body" in refused(*command)
    write_parquet(tmp_path / "in/b.parquet", list(texts(20)), n=[f"{i}" for i in ids])
    assert "--id-column n is int64 in a.parquet but string in b.parquet" in refused(*command, "--id-column", "n")


def test_unknown_ending(refused, server, tmp_path):
    (tmp_path / "x.doc").write_text("text")
    assert ".parquet" in refused("x.doc", "-o", "out", "--endpoint", server.url)


def test_server_not_reachable_says_which(refused, corpus):
    assert "http://127.0.0.1:9" in refused(corpus, "-o", "out", "--endpoint", "http://127.0.0.1:9", code=1)


def test_no_endpoint(refused, corpus):
    assert "--endpoint" in refused(corpus, "-o", "out")


def test_wrong_key_names_the_variable_and_not_the_value(refused, server, corpus):
    server.behave(api_key="the-right-key")
    arguments = (corpus, "-o", "out", "--endpoint", server.url, "--api-key-env", "TEST_KEY")
    said = refused(*arguments, code=1, TEST_KEY="a-wrong-key")
    assert "TEST_KEY" in said
    assert "a-wrong-key" not in said
    assert "TEST_KEY" in refused(*arguments)
    assert "--api-key-env" in refused(corpus, "-o", "out", "--endpoint", server.url, code=1)


def test_the_right_key_is_taken_from_the_environment_and_stays_there(rayembed, server, corpus, tmp_path):
    key = "sk-a-secret-that-shows-nowhere"
    server.behave(api_key=key)
    run = rayembed(
        *("run", corpus, "-o", "out", "--endpoint", server.url, "--api-key-env", "TEST_KEY"),
        own_ray=True,
        TEST_KEY=key,
    )
    assert run.wait() == 0, run.err
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert written
    assert not any(key.encode() in content for content in written)
    assert key not in run.out + run.err


def test_unknown_model(refused, server, corpus):
    assert "gte-nope" in refused(corpus, "-o", "out", "--endpoint", server.url, "--model", "gte-nope", code=1)


def test_output_of_another_run(rayembed, refused, server, corpus, tmp_path):
    run = rayembed("run", corpus, "-o", "there", "--endpoint", server.url)
    assert run.wait() == 0, run.err
    again = (corpus, "-o", "there", "--endpoint", server.url)
    assert "dtype: float32 there, float16 now" in refused(*again, "--dtype", "float16")
    server.behave(dim=48)
    assert "dim: 32 there, 48 now" in refused(*again)
    server.behave(dim=32)
    write_parquet(corpus, list(texts(20, seed=1)))
    assert "c.parquet" in refused(*again)


def test_config_errors_name_key_and_line(refused, server, corpus, tmp_path):
    (tmp_path / "bad.yaml").write_text("async_inference:\n  concurent_requests: 8\n")
    said = refused(corpus, "-o", "out", "--endpoint", server.url, "--config", "bad.yaml")
    assert "line 2" in said
    assert "concurrent_requests" in said


def test_output_folder_that_cannot_be_made(refused, server, corpus, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file/out" in refused(corpus, "-o", "file/out", "--endpoint", server.url, code=1)


def test_data_batch_past_the_end(refused, server, corpus):
    assert "--batch 2" in refused(corpus, "-o", "out", "--endpoint", server.url, "--batch", 2)
