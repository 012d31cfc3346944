"""Input in an object store, over a real S3 protocol: found, planned, read and watched like files."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from actors.corpus.source import open_source
from actors.corpus.storage import find
from actors.errors import UserError
from actors.queue.listing import Listing, list_input
from actors.queue.plan import Plan
from tests.servers.s3 import BUCKET, S3

TEXTS = [f"text {i}" for i in range(3000)]


def parquet(texts: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "blob": ["x" * 1000] * len(texts)}), file, row_group_size=1000)
    return file.getvalue()


def arrow(texts: list[str]) -> bytes:
    file = io.BytesIO()
    pyarrow.feather.write_feather(pa.table({"text": texts}), file, chunksize=1000)
    return file.getvalue()


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def listed(tmp_path: Path, *inputs: str) -> Listing:
    return list_input(inputs, tmp_path / "out", "text", None, ())


def texts_of(listing: Listing, order: list[int]) -> list[list[str | None]]:
    """Parts of 500 rows, each read by a reader of its own."""
    plan = Plan(listing.files, 500, 1 << 40, None, listing.checkpoints)
    found = []
    for index in order:
        lease = plan.lease(index, 1)
        with closing(open_source(lease.file, listing.columns)) as reader:
            found.append(reader.read(lease.parts[0]).texts)
    return found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.parquet", parquet(TEXTS)),
        ("x.arrow", arrow(TEXTS)),
        ("x.jsonl", jsonl(TEXTS)),
        ("x.jsonl.gz", gzip.compress(jsonl(TEXTS[:1700])) + gzip.compress(jsonl(TEXTS[1700:]))),
        ("x.csv", lines(["text", *TEXTS])),
        ("odd name #1 %41 ü.txt", lines(TEXTS)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_format_in_any_order(s3: S3, tmp_path: Path, name: str, content: bytes) -> None:
    listing = listed(tmp_path, s3.put(f"formats/{name}/{name}", content))
    assert [(file.name, file.rows, file.size) for file in listing.files] == [(name, 3000, len(content))]
    order = [*range(6), 4, 0]
    assert texts_of(listing, order) == [TEXTS[i * 500 : i * 500 + 500] for i in order]


def test_folders_patterns_and_files(s3: S3, tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", "a/d.jsonl", "a/[1].txt", "_no/e.txt", "a/.no.txt", "a/README.md", "ab/f.txt"):
        s3.put(f"find/{name}", jsonl(["x"]))
    root = f"s3://{BUCKET}/find"

    def found(*inputs: str) -> list[str]:
        return [file.path.removeprefix(f"{root}/") for file in listed(tmp_path, *inputs).files]

    assert found(root) == ["a/[1].txt", "a/c.txt", "a/d.jsonl", "ab/f.txt", "b.txt"]
    assert found(f"{root}/a/") == found(f"{root}/a") == ["a/[1].txt", "a/c.txt", "a/d.jsonl"]
    assert found(f"{root}/*.txt") == ["b.txt"]
    assert found(f"{root}/*/*.txt") == ["_no/e.txt", "a/.no.txt", "a/[1].txt", "a/c.txt", "ab/f.txt"]
    assert found(f"{root}/**/[cf].txt") == ["a/c.txt", "ab/f.txt"]
    assert found(f"{root}/a?") == ["ab/f.txt"], "a pattern may name folders"
    assert found(f"{root}/a/[1].txt", f"{root}/b.txt", f"{root}/b.txt") == ["a/[1].txt", "b.txt"]
    assert [file.name for file in listed(tmp_path, f"{root}/a").files] == ["[1].txt", "c.txt", "d.jsonl"]
    assert find(f"{root}/none") is find(f"{root}/no*.txt") is find("s3://no-such-bucket/x") is None


def test_what_is_not_there_is_named(s3: S3, tmp_path: Path) -> None:
    s3.put("there/x.md", b"no corpus")
    with pytest.raises(UserError, match=f"^input not found: s3://{BUCKET}/gone.parquet$"):
        listed(tmp_path, f"s3://{BUCKET}/gone.parquet")
    with pytest.raises(UserError, match=f"^no corpus file in folder s3://{BUCKET}/there"):
        listed(tmp_path, f"s3://{BUCKET}/there")
    path = s3.put("there/y.parquet", parquet(TEXTS)[:-100])
    with pytest.raises(UserError, match=f"^{path} is not a readable Parquet file"):
        listed(tmp_path, path)


def test_local_files_and_objects_together(s3: S3, tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(jsonl(["local"]))
    remote = s3.put("together/a.jsonl", jsonl(["remote"]))
    listing = listed(tmp_path, remote, str(tmp_path / "b.jsonl"))
    assert texts_of(listing, [0, 1]) == [["local"], ["remote"]]
    assert [file.name for file in listing.files] == [str(tmp_path / "b.jsonl"), remote]


@pytest.mark.parametrize(("name", "write"), [("x.parquet", parquet), ("x.jsonl", jsonl)])
def test_an_object_that_changes_or_vanishes_while_it_is_read(
    s3: S3, tmp_path: Path, name: str, write: Callable[[list[str]], bytes]
) -> None:
    key = f"changes/{name}"
    listing = listed(tmp_path, s3.put(key, write(TEXTS)))
    plan = Plan(listing.files, 500, 1 << 40, None, listing.checkpoints)
    with closing(open_source(listing.files[0], listing.columns)) as reader:
        s3.put(key, write(TEXTS))
        assert reader.read(plan.part(0)).texts == TEXTS[:500], "the same content is the same object"
        s3.put(key, write([text.upper() for text in TEXTS]))
        with pytest.raises(UserError, match=f"{name} changed"):
            reader.read(plan.part(1))
        s3.delete(key)
        with pytest.raises(FileNotFoundError):
            reader.read(plan.part(2))
