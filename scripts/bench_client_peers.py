"""Other clients for `bench_client.py --peers`: the same texts, 512 a request, in a venv of their own.

saturate    to Parquet, its own choice of concurrency; a record is a request, its vectors one value of raw bytes
httpx       a plain asyncio loop, 16 requests in flight, vectors into NumPy arrays; writes nothing
baseten     Baseten's Rust client, JSON floats whatever the server could do; writes nothing
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = ["saturate", "baseten-performance-client", "httpx", "orjson", "pybase64", "numpy", "pyarrow"]
MODEL = "gpu-embedder"
BATCH = 512
IN_FLIGHT = 16


def commands(folder: Path) -> dict[str, list[str]]:
    """How each of them is called, once they are installed below `folder`. Needs a package index."""
    venv = folder / "peers"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = str(venv / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    words = ["--corpus", "{corpus}", "--out", "{out}", "--url", "{url}", "--dim", "{dim}"]
    return {name: [python, __file__, name, *words] for name in CLIENTS}


def requests_of(corpus: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for number, batch in enumerate(pq.ParquetFile(corpus).iter_batches(BATCH)):
        yield {"number": number, "texts": batch.column("text").to_pylist()}


def body_of(request: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "input": request["texts"], "encoding_format": "base64"}


def vectors_of(data: list[dict[str, Any]], dim: int) -> Any:
    """float32[len(data), dim]"""
    import numpy as np
    import pybase64

    if isinstance(data[0]["embedding"], str):
        raw = b"".join(pybase64.b64decode(each["embedding"]) for each in data)
        return np.frombuffer(raw, np.float32).reshape(len(data), dim)
    return np.array([each["embedding"] for each in data], np.float32)


def saturate(corpus: str, out: str, url: str, dim: int) -> None:
    from saturate import pump

    def parse(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        return {"number": request["number"], "vectors": vectors_of(answer["data"], dim).tobytes()}

    pump(requests_of(corpus), body_of, parse, f"{url}/v1", out, route="/embeddings", id_key="number")


def httpx_loop(corpus: str, out: str, url: str, dim: int) -> None:
    import httpx
    import orjson

    async def work(client: httpx.AsyncClient, requests: Iterator[dict[str, Any]]) -> None:
        for request in requests:
            answer = await client.post(f"{url}/v1/embeddings", content=orjson.dumps(body_of(request)))
            vectors_of(orjson.loads(answer.content)["data"], dim)

    async def everything() -> None:
        requests = requests_of(corpus)
        async with httpx.AsyncClient(timeout=60) as client:
            await asyncio.gather(*(work(client, requests) for _ in range(IN_FLIGHT)))

    asyncio.run(everything())


def baseten(corpus: str, out: str, url: str, dim: int) -> None:
    from baseten_performance_client import PerformanceClient, RequestProcessingPreference

    texts = [text for request in requests_of(corpus) for text in request["texts"]]
    client = PerformanceClient(base_url=url, api_key="none")
    how = RequestProcessingPreference(
        batch_size=BATCH, max_concurrent_requests=IN_FLIGHT, max_chars_per_request=1_000_000
    )
    answer = client.embed(input=texts, model=MODEL, preference=how)
    assert answer.numpy().shape == (len(texts), dim)


CLIENTS = {"saturate": saturate, "httpx": httpx_loop, "baseten": baseten}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("client", choices=list(CLIENTS))
    for name in ("--corpus", "--out", "--url"):
        arguments.add_argument(name, required=True)
    arguments.add_argument("--dim", type=int, required=True)
    given = vars(arguments.parse_args())
    CLIENTS[given.pop("client")](**given)


if __name__ == "__main__":
    main()
