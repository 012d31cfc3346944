"""Input behind a web address: in parts where the server gives them, else from the beginning; no secret shows."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors import object_storage
from actors.corpus import remote
from actors.corpus.source import open_source
from actors.corpus.storage import bare
from actors.errors import UserError
from actors.queue.listing import Listing, list_input
from actors.queue.plan import Plan
from tests.servers.files import FileServer, file_server

TEXTS = [f"text {i}" for i in range(3000)]
JSONL = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "_PAUSE_S", 0.001)


def parquet(**columns: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=1000)
    return file.getvalue()


def listed(tmp_path: Path, *inputs: str) -> Listing:
    return list_input(inputs, tmp_path / "out", "text", None, ())


def texts_of(listing: Listing, order: list[int]) -> list[list[str | None]]:
    """Parts of 500 rows of one file, by one reader."""
    plan = Plan(listing.files, 500, 1 << 40, None, listing.checkpoints)
    with closing(open_source(listing.files[0], listing.columns)) as reader:
        return [reader.read(plan.part(index)).texts for index in order]


@pytest.mark.parametrize("says_size", [True, False])
@pytest.mark.parametrize("gives_parts", [True, False])
@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.parquet"])
def test_in_any_order_from_any_server(
    files: FileServer, tmp_path: Path, name: str, gives_parts: bool, says_size: bool
) -> None:
    contents = {"x.jsonl": JSONL, "x.jsonl.gz": gzip.compress(JSONL), "x.parquet": parquet(text=TEXTS)}
    files.files[f"deep/{name}"] = contents[name]
    files.gives_parts, files.says_size = gives_parts, says_size
    url = f"{files.url}/deep/{name}"
    if name == "x.parquet" and not (gives_parts and says_size):
        with pytest.raises(UserError, match=f"^{url} is not a readable Parquet file: .*download it first$"):
            listed(tmp_path, url)
        return
    listing = listed(tmp_path, url)
    (file,) = listing.files
    assert (file.path, file.name, file.rows, file.size) == (url, name, 3000, len(contents[name]))
    order = [0, 1, 2, 5, 3, 0]
    assert texts_of(listing, order) == [TEXTS[i * 500 : i * 500 + 500] for i in order]


def test_only_the_columns_needed_travel(files: FileServer, tmp_path: Path) -> None:
    wide = [random.Random(i).randbytes(500).hex() for i in range(3000)]
    files.files["x.parquet"] = parquet(wide=wide, text=TEXTS, more=wide)
    texts_of(listed(tmp_path, f"{files.url}/x.parquet"), [2, 3])
    assert files.sent < len(files.files["x.parquet"]) // 4


def test_a_signature_is_sent_and_stands_in_no_name_and_no_message(files: FileServer, tmp_path: Path) -> None:
    files.files["x.jsonl"] = JSONL
    url = f"{files.url}/x.jsonl?signature=secret"
    listing = listed(tmp_path, url)
    assert listing.files[0].path == url
    assert listing.files[0].name == "x.jsonl"
    assert bare(url.replace("//", "//user:password@")) == f"{files.url}/x.jsonl"
    files.files.clear()
    for given in (url, url.replace(".jsonl", ".doc"), url.replace("signature", "s*")):
        with pytest.raises(UserError) as caught:
            listed(tmp_path, given)
        assert "secret" not in str(caught.value)
    files.files["x.doc"] = b""
    with pytest.raises(UserError, match=f"^cannot tell the format of {files.url}/x.doc by its name"):
        listed(tmp_path, url.replace(".jsonl", ".doc"))


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl"])
def test_a_server_that_fails_for_a_while_is_asked_again(files: FileServer, tmp_path: Path, name: str) -> None:
    files.files["x.parquet"], files.files["x.jsonl"] = parquet(text=TEXTS), JSONL
    files.failures = 3
    listing = listed(tmp_path, f"{files.url}/{name}")
    plan = Plan(listing.files, 500, 1 << 40, None, listing.checkpoints)
    with closing(open_source(listing.files[0], listing.columns)) as reader:
        files.failures = 3
        assert reader.read(plan.part(4)).texts == TEXTS[2000:2500]
        assert files.failures == 0


def test_a_server_that_goes_on_failing_is_an_error(files: FileServer, tmp_path: Path) -> None:
    files.files["x.jsonl"] = JSONL
    files.failures = 1000
    with pytest.raises(UserError, match=f"^input {files.url}/x.jsonl cannot be read: 503"):
        listed(tmp_path, f"{files.url}/x.jsonl")


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^input http://127\.0\.0\.1:9/x\.jsonl cannot be read: .*127\.0\.0\.1"):
        listed(tmp_path, "http://127.0.0.1:9/x.jsonl")


def test_what_is_not_there_and_what_may_not_be_read(files: FileServer, tmp_path: Path) -> None:
    url = f"{files.url}/x.jsonl"
    with pytest.raises(UserError, match=f"^input not found: {url}$"):
        listed(tmp_path, url)
    files.forbidden = True
    with pytest.raises(UserError, match=f"^input {url} cannot be read: Permission denied$"):
        listed(tmp_path, url)


def test_other_content_is_refused_by_name(files: FileServer, tmp_path: Path) -> None:
    files.files["x.jsonl"] = JSONL
    listing = listed(tmp_path, f"{files.url}/x.jsonl")
    files.files["x.jsonl"] = JSONL.upper()
    with pytest.raises(UserError, match=r"x\.jsonl changed"):
        texts_of(listing, [0])


# --- other schemes ----------------------------------------------------------------------------------------------


def test_what_fsspec_knows_is_read_through_it(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/corpora/a/x.jsonl", JSONL)
    memory.pipe("/corpora/a/_no.jsonl", JSONL)
    memory.pipe("/corpora/b/y.parquet", parquet(text=TEXTS))
    listing = listed(tmp_path, "memory://corpora")
    assert [file.path for file in listing.files] == ["memory://corpora/a/x.jsonl", "memory://corpora/b/y.parquet"]
    assert [file.name for file in listing.files] == ["a/x.jsonl", "b/y.parquet"]
    assert texts_of(listed(tmp_path, "memory://corpora/*/*.parquet"), [1]) == [TEXTS[500:1000]]
    assert texts_of(listed(tmp_path, "memory://corpora/a/x.jsonl"), [5, 1]) == [TEXTS[2500:], TEXTS[500:1000]]
    with pytest.raises(UserError, match=r"^input not found: memory://corpora/c$"):
        listed(tmp_path, "memory://corpora/c")


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("az://container/x.parquet", "adlfs"),
        ("abfs://c@account.net/x.parquet", "adlfs"),
        ("gs://bucket/x.parquet", "gcsfs"),
    ],
)
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, package: str
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"needs a package that is not installed: pip install {package}$"):
        listed(tmp_path, url)


def test_a_scheme_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^nope:// is no kind of storage"):
        listed(tmp_path, "nope://x/y.parquet")


def test_a_hub_is_one_of_them() -> None:
    """Only that it opens: there is no hub to be reached here."""
    assert isinstance(remote.store_of("hf://datasets/someone/something/x.parquet"), remote._FsspecStore)
