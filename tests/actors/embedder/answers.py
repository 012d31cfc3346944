"""Answers of embedding servers for fuzzing: right ones in every spelling, odd ones, and both with damaged bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from actors.embedder.dialects import Answer

Vectors = npt.NDArray[np.float32]
Fields = tuple[tuple[str, object], ...]  # of a JSON object: unlike a dict, it may have a name twice

_COLONS = [":", ": ", " : ", "\n\t:"]
_COMMAS = [",", ", ", " ,\r\n  "]
_FRAGMENTS = [
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"=",
    b"\\",
    b"\x00",
    b"\xff",
    b" ",
    b"-",
    b"e",
    b"1",
    b"nan",
]
_FRAGMENTS += [b'"embedding":"', b'"embedding":[', b'"index":0', b"\\u0022", b"AAAA"]


def finished(decoding: Generator[None, None, Answer], most_steps: int = 10_000) -> Answer:
    """The answer, which must come after no more than so many steps."""
    for _ in range(most_steps):
        try:
            next(decoding)
        except StopIteration as done:
            answer: Answer = done.value
            return answer
    raise AssertionError("it does not end")


def read_plainly(body: bytes, texts: int) -> Vectors | None:
    """What an OpenAI embedding list holds, by the standard library alone; None when it is no right answer."""
    try:
        items = json.loads(body.decode(errors="surrogateescape"), strict=False)["data"]
        rows = [_vector(item["embedding"]) for item in items]
        index = [item["index"] for item in items]
        if sorted(index) != list(range(texts)) or len({len(row) for row in rows}) != 1:
            return None
        return np.array([rows[index.index(i)] for i in range(texts)], np.float32)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def read_bare_plainly(body: bytes, texts: int) -> Vectors | None:
    """What a bare list of vectors holds, by the standard library alone; None when it is no right answer."""
    try:
        rows = [_vector(each) for each in json.loads(body.decode(errors="surrogateescape"), strict=False)]
        if len(rows) != texts or len({len(row) for row in rows}) != 1:
            return None
        return np.array(rows, np.float32)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _vector(given: object) -> Vectors:
    if isinstance(given, str):
        return np.frombuffer(base64.b64decode(given, validate=True), "<f4")
    if not isinstance(given, list) or any(type(value) not in (int, float) for value in given):
        raise TypeError("no vector")
    with np.errstate(over="ignore"):
        return np.array([float(value) for value in given]).astype(np.float32)


@dataclass(frozen=True)
class Spelling:
    colons: list[str]
    comma: str

    def of(self, value: object) -> bytes:
        return self._of(value, cycle(self.colons)).encode()

    def _of(self, value: object, colons: cycle[str]) -> str:
        if isinstance(value, tuple):
            fields = [json.dumps(name) + next(colons) + self._of(each, colons) for name, each in value]
            return "{" + self.comma.join(fields) + "}"
        if isinstance(value, list):
            return "[" + self.comma.join(self._of(each, colons) for each in value) + "]"
        return json.dumps(value)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def embedding_list(embeddings: Sequence[object]) -> Fields:
    return (("data", [(("index", i), ("embedding", each)) for i, each in enumerate(embeddings)]),)


def _encoded(row: Vectors, as_base64: bool) -> object:
    return base64_of(row.tobytes()) if as_base64 else [int(x) if x == int(x) else float(x) for x in row]


def vectors(rows: int, dim: int) -> st.SearchStrategy[Vectors]:
    number = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-9, 9).map(float)
    row = st.lists(number, min_size=dim, max_size=dim)
    return st.lists(row, min_size=rows, max_size=rows).map(lambda values: np.array(values, np.float32))


_MIXED = st.builds(Spelling, st.lists(st.sampled_from(_COLONS), min_size=2, max_size=3), st.sampled_from(_COMMAS))
_SPELLINGS = st.builds(Spelling, st.sampled_from(_COLONS).map(lambda one: [one]), st.sampled_from(_COMMAS)) | _MIXED
_USAGES: st.SearchStrategy[Fields] = st.sampled_from(
    [(), (("usage", None),), (("usage", ()),), (("usage", (("prompt_tokens", 7), ("total_tokens", 7))),)]
)


def _more(like: object) -> st.SearchStrategy[Fields]:
    """Fields that no reader needs; `like` is an embedding."""
    fields: list[tuple[str, object]] = [
        ("object", "embedding"),
        ("meta", (("embedding", like),)),
        ("note", '"embedding":"AACAPw=="'),
        ('a "embedding', like),
        ("embeddings", like),
        ("embedding_of", [like]),
        ("score", -1.5e-7),
        ("ünï\u2028", None),
    ]
    return st.lists(st.sampled_from(fields), max_size=2).map(tuple)


@st.composite
def right_answers(draw: st.DrawFn) -> tuple[bytes, Vectors]:
    """A body that every reader must understand, and its vectors."""
    rows, dim = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    expected = draw(vectors(rows, dim))
    encodings = draw(st.sampled_from([[True], [False], [True], [False], [False, True]]))
    spelling = draw(_SPELLINGS)
    items = []
    for i in draw(st.permutations(range(rows))):
        embedding = _encoded(expected[i], encodings[i % len(encodings)])
        fields = (("index", i), ("embedding", embedding), *draw(_more(embedding)))
        items.append(tuple(draw(st.permutations(fields))))
    top = (("object", "list"), ("data", items), *draw(_USAGES), *draw(_more(_encoded(expected[0], encodings[0]))))
    return spelling.of(tuple(draw(st.permutations(top)))), expected


@st.composite
def bare_answers(draw: st.DrawFn) -> tuple[bytes, Vectors]:
    """A bare list of vectors, as TEI and Cohere have them, that every reader must understand."""
    expected = draw(vectors(draw(st.integers(1, 5)), draw(st.integers(1, 7))))
    as_base64 = draw(st.booleans())
    body = draw(_SPELLINGS).of([_encoded(row, as_base64) for row in expected])
    return draw(st.sampled_from([b"", b" ", b"\r\n"])) + body + draw(st.sampled_from([b"", b"\n"])), expected


@st.composite
def uneven_bare_answers(draw: st.DrawFn) -> tuple[bytes, int]:
    """A bare list of vectors of several lengths or none, and for how many texts it is."""
    texts, size = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    base64s = st.sampled_from([4 * size + 1, 4 * size, 4 * size - 1]).map(lambda n: base64_of(b"\x01" * n))
    numbers = st.integers(1, 2).map(lambda n: [0.5] * n)
    odd = st.sampled_from(["", [], 0, None, [[1.0]], [None], "????", 0.5])
    either = st.sampled_from([base64s, numbers, base64s | numbers, numbers | odd, base64s | odd])
    listed = draw(st.lists(draw(either), min_size=texts - 1, max_size=texts + 1))
    return draw(_SPELLINGS).of(listed), texts


@st.composite
def uneven_answers(draw: st.DrawFn) -> tuple[bytes, int]:
    """An embedding list of vectors of several lengths or none, and for how many texts it is."""
    rows, dim = draw(st.sampled_from([2, 1, 3])), draw(st.sampled_from([2, 5, 2, 3]))
    junk = draw(st.sampled_from(["", "", "?" * 16]))  # in the place of whole numbers
    base64s = st.sampled_from([4 * dim + 1, 4 * dim, 4 * dim - 1]).map(
        lambda size: junk + base64_of(b"\x01" * size)
    )
    numbers = st.integers(1, 2).map(lambda size: [0.5] * size)
    embeddings = draw(st.lists(draw(st.sampled_from([base64s, base64s, numbers])), min_size=rows, max_size=rows))
    return draw(_SPELLINGS).of(embedding_list(embeddings)), rows


@st.composite
def misplaced_answers(draw: st.DrawFn) -> tuple[bytes, int]:
    """An embedding list whose embeddings are missing, there twice or elsewhere, and for how many texts it is."""
    rows = draw(st.integers(1, 2))
    like = _encoded(np.ones(draw(st.integers(1, 3)), np.float32), draw(st.booleans()))
    right, meta = ("embedding", like), ("meta", (("embedding", like),))
    again = "index", draw(st.integers(0, 1))
    odd = [("embedding", value) for value in ("", [], 0, None, [[1.0]])]
    fields = st.lists(st.sampled_from([right, meta, right, meta, again, again, *odd]), min_size=1, max_size=3)
    items = [tuple(draw(st.permutations([("index", i), *draw(fields)]))) for i in range(rows)]
    return draw(_MIXED).of((("data", items),)), rows


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """The body with some of its bytes flipped, gone, said twice or put in."""
    for _ in range(draw(st.integers(1, 3))):
        at, to = sorted(draw(st.tuples(*[st.integers(0, len(body))] * 2)))
        near = min(to, at + draw(st.integers(0, 8)))
        body = draw(
            st.sampled_from(
                [
                    body[:at]
                    + bytes([byte ^ draw(st.integers(1, 255)) for byte in body[at : at + 1]])
                    + body[at + 1 :],
                    body[:at] + draw(st.sampled_from(_FRAGMENTS)) + body[at:],
                    body[:at] + draw(st.sampled_from(_FRAGMENTS)) + body[near:],
                    body[:at] + body[near:],
                    body[:at] + body[to:],
                    body[:at],
                    body[:to] + body[at:],
                ]
            )
        )
    return body


rubbish = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda start, one: start + one * 3000,
        st.sampled_from([b"", b'{"x":', b'{"data":[{"id":']),
        st.sampled_from([b"[", b"[", b'{"x":', *_FRAGMENTS]),
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["data", "id", "embedding", "error", "message", "detail", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)
