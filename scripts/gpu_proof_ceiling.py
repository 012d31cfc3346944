"""What the model alone makes of the proof's texts, in a tight loop, tokenized and sorted beforehand: the ceiling.

    python scripts/gpu_proof_ceiling.py MODEL_FOLDER DEVICE SECONDS TEXTS

Several sizes of a batch are tried, with one and with several threads that feed the device; the best is measured.
Prints one JSON object.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from gpu_proof_corpus import sample  # noqa: E402
from gpu_proof_gauge import Utilisation  # noqa: E402

from actors.errors import UserError  # noqa: E402
from jobs.serve.backends import Backend, load_backend  # noqa: E402
from jobs.serve.backends.base import Ids, counts  # noqa: E402

PARTS = (0.25, 1.0, 4.0)  # of the batch that the server takes unless it is told otherwise
TRIAL = 0.15  # of the seconds, for each trial


@dataclass(frozen=True, slots=True)
class Ceiling:
    """`fill` is the share of tokens that are not padding, `cpu` is in cores."""

    rows_per_s: float
    tokens_per_s: float
    batch_tokens: int
    lanes: int
    fill: float
    cpu: float
    gpu: dict[str, tuple[float, float]] = field(default_factory=dict)


def main() -> None:
    folder, device, seconds, texts = sys.argv[1:]
    backend = load_backend(folder, device)
    rows = backend.tokenize(sample(int(texts)))
    trials = [
        measure(backend, rows, int(part * backend.batch_tokens), lanes, TRIAL * float(seconds))
        for part in PARTS
        for lanes in sorted({1, backend.lanes})
    ]
    best = max(trials, key=lambda each: each.tokens_per_s)
    for each in trials:
        print(f"  {each.batch_tokens} tokens, {each.lanes} at a time: {each.tokens_per_s:,.0f}/s", file=sys.stderr)
    print(json.dumps(asdict(measure(backend, rows, best.batch_tokens, best.lanes, float(seconds)))))


def measure(backend: Backend, rows: Sequence[Ids], batch_tokens: int, lanes: int, seconds: float) -> Ceiling:
    batches = cut(rows, batch_tokens)
    source = itertools.cycle(batches)
    deadline = time.monotonic() + seconds
    done: list[tuple[int, int, int]] = []

    def run() -> None:
        while time.monotonic() < deadline or len(done) < lanes:
            batch = next(source)
            backend.embed(batch)
            lengths = counts(batch)
            done.append((len(batch), int(lengths.sum()), len(batch) * int(lengths.max())))

    backend.embed(batches[0])
    with Utilisation() as utilisation:
        began, cpu_began = time.monotonic(), time.process_time()
        threads = [threading.Thread(target=run) for _ in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
    texts, tokens, padded = (sum(column) for column in zip(*done, strict=True))
    return Ceiling(
        texts / took, tokens / took, batch_tokens, lanes, tokens / padded, cpu_s / took, utilisation.summary()
    )


def cut(rows: Sequence[Ids], batch_tokens: int) -> list[list[Ids]]:
    """Texts of like length together, full batches, in an order that mixes long and short ones."""
    batches = list(_cut(sorted(rows, key=len, reverse=True), batch_tokens))
    np.random.default_rng(0).shuffle(batches)  # type: ignore[arg-type]
    return batches


def _cut(longest_first: Sequence[Ids], batch_tokens: int) -> Iterator[list[Ids]]:
    begin = 0
    while begin < len(longest_first):
        end = begin + max(1, batch_tokens // len(longest_first[begin]))
        yield list(longest_first[begin:end])
        begin = end


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
