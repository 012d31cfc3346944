"""A real sentence-transformers model, tiny and with random weights, from a folder."""

from __future__ import annotations

import importlib.util
import string
from pathlib import Path

import httpx
import numpy as np
import pytest

from actors.errors import UserError
from jobs.serve.app import create_app
from jobs.serve.backends import Backend, load_backend
from jobs.serve.backends.base import encode
from jobs.serve.engine import Engine

TEXTS = ["a short text", "b", "a much longer text than the others " * 20, "the end"]
LIMIT = 16

missing = importlib.util.find_spec("sentence_transformers") is None


@pytest.mark.skipif(not missing, reason="sentence-transformers is installed")
def test_without_the_package_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pip install 'rayembed\[sentence-transformers\]'"):
        load_backend(str(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = pytest.importorskip("sentence_transformers")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    path = tmp_path_factory.mktemp("models")
    words = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    torch.manual_seed(0)
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    )
    (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    bert.save_pretrained(path / "bert")
    transformers.BertTokenizerFast(vocab=vocabulary, vocab_file=str(path / "vocab.txt")).save_pretrained(
        path / "bert"
    )
    transformer = modules.Transformer(str(path / "bert"), max_seq_length=LIMIT)
    library.SentenceTransformer(modules=[transformer, modules.Pooling(32)], device="cpu").save(
        str(path / "tiny-bert")
    )
    return path / "tiny-bert"


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Backend:
    return load_backend(str(folder), "cpu")


def test_what_it_says_of_itself(tiny: Backend) -> None:
    assert (tiny.name, tiny.dim, tiny.max_tokens, tiny.matryoshka) == ("tiny-bert", 32, LIMIT, False)


def test_vectors_are_those_of_the_library(tiny: Backend, folder: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(encode(tiny, TEXTS).vectors, expected, atol=1e-5)


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_models_own_prompt_and_padding_are_kept(
    folder: Path, tmp_path: Path, include_prompt: bool, side: str
) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(folder), device="cpu")
    model.prompts, model.default_prompt_name = {"document": "read this "}, "document"
    model[1].include_prompt = include_prompt
    model.tokenizer.padding_side = side
    model.save(str(tmp_path / "prompted"))
    expected = library.SentenceTransformer(str(tmp_path / "prompted"), device="cpu").encode(
        TEXTS, normalize_embeddings=True
    )
    prompted = encode(load_backend(str(tmp_path / "prompted"), "cpu"), TEXTS)
    np.testing.assert_allclose(prompted.vectors, expected, atol=1e-5)
    assert prompted.tokens[1] > 3


def test_a_model_that_is_given_more_than_its_tokens_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("sentence_transformers")
    whole = library.SentenceTransformer.encode
    monkeypatch.setattr(library.SentenceTransformer, "encode", lambda self, texts, **kw: -whole(self, texts, **kw))
    with pytest.raises(UserError, match="takes more than the tokens"):
        load_backend(str(folder), "cpu")


def test_batch_agrees_with_single_and_is_of_unit_length(tiny: Backend) -> None:
    batch = encode(tiny, TEXTS)
    assert batch.vectors.dtype == np.float32
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(encode(tiny, [text]).vectors[0], batch.vectors[row], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(batch.vectors, axis=1), 1.0, atol=1e-5)


def test_tokens_count_what_was_read(tiny: Backend) -> None:
    tokens = encode(tiny, TEXTS).tokens
    assert tokens[1] == 3  # [CLS] b [SEP]
    assert tokens[2] == LIMIT
    cut = encode(tiny, [TEXTS[2], TEXTS[2] + "and more"]).vectors
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-5)


@pytest.mark.parametrize("merge", [True, False])
async def test_served(tiny: Backend, merge: bool) -> None:
    transport = httpx.ASGITransport(create_app(tiny, engine=Engine(tiny, 64, merge=merge)))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        model = (await client.get("/v1/models")).json()["data"][0]
        assert (model["id"], model["max_model_len"], model["n_embd"]) == ("tiny-bert", LIMIT, 32)
        reply = (await client.post("/v1/embeddings", json={"input": TEXTS})).json()
        assert len(reply["data"]) == len(TEXTS)
        assert reply["usage"]["prompt_tokens"] == int(encode(tiny, TEXTS).tokens.sum())
        rows = np.array([row["embedding"] for row in reply["data"]], np.float32)
        np.testing.assert_allclose(rows, encode(tiny, TEXTS).vectors, atol=1e-5)
        refused = await client.post("/v1/embeddings", json={"input": "a", "dimensions": 16})
        assert refused.status_code == 400


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(UserError, match="cannot load it"):
        load_backend(str(tmp_path), "cpu")


def test_a_gpu_that_is_not_there(folder: Path) -> None:
    if pytest.importorskip("torch").cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="--device cuda"):
        load_backend(str(folder), "cuda")
