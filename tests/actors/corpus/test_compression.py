"""Compressed content: whole whatever its members are, in order from any of them, and damage is told."""

from __future__ import annotations

import gzip
import io
import itertools
import zlib
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.corpus.compression import COMPRESSED, Inflated, zstd
from tests.examples import examples

SKIPPABLE = bytes.fromhex("502a4d18") + (5).to_bytes(4, "little") + b"index"  # a zstd frame without content


def packed(ending: str, content: bytes) -> bytes:
    """One member."""
    return gzip.compress(content, mtime=0) if ending == ".gz" else zstd.compress(content)


def inflated(data: bytes, ending: str, start: int = 0) -> bytes:
    file = io.BytesIO(data)
    file.seek(start)
    return io.BufferedReader(Inflated(file, ending, start)).read()


@pytest.mark.parametrize("ending", COMPRESSED)
@examples(100)
@given(
    pieces=st.lists(st.binary(max_size=50) | st.integers(1, 3000).map(lambda size: b"z" * size), max_size=6),
    padding=st.integers(0, 600),
)
def test_members_one_after_the_other_are_their_contents(ending: str, pieces: list[bytes], padding: int) -> None:
    members = [packed(ending, piece) for piece in pieces]
    noted: list[tuple[int, int]] = []
    data = (b"\0" * padding).join(members) + b"\0" * padding
    stream = io.BufferedReader(Inflated(io.BytesIO(data), ending, 0, lambda *place: noted.append(place)))
    assert stream.read() == b"".join(pieces)
    contents = [0, *itertools.accumulate(map(len, pieces))]
    assert [before for before, _ in noted] == contents[: len(pieces)]
    for before, byte in noted:
        assert inflated(data, ending, byte) == b"".join(pieces)[before:]


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_member_of_many_blocks_comes_in_small_pieces(ending: str) -> None:
    content = bytes(range(256)) * 40_000
    stream = Inflated(io.BytesIO(packed(ending, content) * 2), ending, 0)
    pieces = []
    while piece := stream.read(5000):
        assert len(piece) <= 5000
        pieces.append(piece)
    assert b"".join(pieces) == content * 2


def test_frames_without_content_are_passed_over() -> None:
    data = SKIPPABLE + packed(".zst", b"a") + SKIPPABLE + packed(".zst", b"b") + SKIPPABLE
    assert inflated(data, ".zst") == b"ab"


@pytest.mark.parametrize("ending", COMPRESSED)
def test_an_empty_file_has_no_content(ending: str) -> None:
    assert inflated(b"", ending) == b""
    assert inflated(packed(ending, b""), ending) == b""


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_truncated_file_is_told_at_any_length(ending: str) -> None:
    data = packed(ending, b"first") + packed(ending, b"second, a little longer" * 9)
    first = len(packed(ending, b"first"))
    for length in range(1, len(data)):
        if length != first:
            with pytest.raises(OSError, match="truncated"):
                inflated(data[:length], ending)
    assert inflated(data[:first], ending) == b"first"


@pytest.mark.parametrize("ending", COMPRESSED)
def test_what_follows_a_member_and_is_none_is_damage(ending: str) -> None:
    with pytest.raises(OSError, match="damaged"):
        inflated(packed(ending, b"a") + b"garbage that is no member", ending)


@pytest.mark.parametrize("ending", COMPRESSED)
@examples(300)
@given(data=st.binary(max_size=100), place=st.integers(0, 60), flip=st.integers(1, 255))
@example(b"", 0, 1)
def test_any_bytes_are_content_or_an_error_of_the_file(ending: str, data: bytes, place: int, flip: int) -> None:
    whole = bytearray(packed(ending, b"some content " * 5))
    whole[place % len(whole)] ^= flip
    for each in (data, bytes(whole), bytes(whole) + data):
        with suppress(OSError):
            inflated(each, ending)


def test_gzip_checks_its_content() -> None:
    data = bytearray(packed(".gz", b"content"))
    data[-8] ^= 1  # of the CRC-32
    with pytest.raises(OSError, match="damaged"):
        inflated(bytes(data), ".gz")
    assert zlib.decompress(bytes(data)[10:-8], -15) == b"content"
