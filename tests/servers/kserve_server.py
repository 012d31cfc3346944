"""A KServe v2 server: Triton with its repository, its configurations and its tensors in bytes, or one without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.servers.in_thread import Asked, in_json
from tests.servers.vectors import vectors_of

_TYPES = {"FP32": "<f4", "FP16": "<f2", "FP64": "<f8"}
_EXTENSIONS = ("classification", "sequence", "model_repository", "model_configuration", "binary_tensor_data")
Tensor = tuple[str, str, Sequence[int]]


@dataclass
class Model:
    """`inputs` and `outputs` as in Triton's configuration: without the batch where `max_batch_size` is above 0.

    Vectors go out of the first output, texts come in by the first input.
    """

    dim: int = 32
    max_batch_size: int = 8
    dynamic_batching: bool = True
    inputs: Sequence[Tensor] = (("TEXT", "BYTES", (1,)),)
    outputs: Sequence[Tensor] = (("EMBEDDING", "FP32", (32,)),)
    optional: Sequence[str] = ()
    state: str = "READY"

    def shape(self, dims: Sequence[int]) -> list[int]:
        return [-1, *dims] if self.max_batch_size > 0 else list(dims)


@dataclass
class KServe:
    """`is_triton`: it has the pages that only Triton has. `refuses_bytes`: whatever its extensions are."""

    models: dict[str, Model] = field(default_factory=lambda: {"embedder": Model()})
    is_triton: bool = True
    extensions: Sequence[str] = _EXTENSIONS
    refuses_bytes: bool = False
    metrics: str = ""
    asked: Asked = field(default_factory=Asked)

    def application(self) -> Starlette:
        triton = [
            Route("/v2/repository/index", self._index, methods=["POST"]),
            Route("/v2/models/{name}/config", self._config),
        ]
        return Starlette(
            routes=[
                Route("/v2", self._server),
                Route("/v2/models/{name}", self._metadata),
                Route("/v2/models/{name}/infer", self._infer, methods=["POST"]),
                *(triton if self.is_triton else []),
                *([Route("/metrics", self._metrics)] if self.metrics else []),
            ],
            exception_handlers={404: _no_page},
        )

    async def _server(self, _: Request) -> Response:
        name = "triton" if self.is_triton else "another"
        return in_json({"name": name, "version": "2.73.0", "extensions": self.extensions})

    async def _index(self, _: Request) -> Response:
        return in_json(
            [{"name": name, "version": "1", "state": model.state} for name, model in self.models.items()]
        )

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics, media_type="text/plain")

    async def _metadata(self, request: Request) -> Response:
        name = request.path_params["name"]
        model = self.models.get(name)
        if model is None:
            return _unknown(name)
        if model.state == "LOADING":
            return in_json({"error": f"Request for unknown model: '{name}' version 1 is not at ready state"}, 503)
        described = {"inputs": _described(model, model.inputs), "outputs": _described(model, model.outputs)}
        return in_json({"name": name, "versions": ["1"], "platform": "python", **described})

    async def _config(self, request: Request) -> Response:
        model = self.models.get(request.path_params["name"])
        if model is None:
            return _unknown(request.path_params["name"])
        inputs = [
            {"name": name, "data_type": f"TYPE_{kind}", "dims": dims, "optional": name in model.optional}
            for name, kind, dims in model.inputs
        ]
        dynamic = {"preferred_batch_size": [], "max_queue_delay_microseconds": 0}
        batching = {"dynamic_batching": dynamic} if model.dynamic_batching else {}
        return in_json({"max_batch_size": model.max_batch_size, "input": inputs, "instance_group": [], **batching})

    async def _infer(self, request: Request) -> Response:
        name, body = request.path_params["name"], await request.body()
        self.asked.requests.append((request.url.path, body))
        model = self.models.get(name)
        if model is None:
            return _unknown(name)
        size = int(request.headers.get("inference-header-content-length", len(body)))
        header, data = msgspec.json.decode(body[:size]), body[size:]
        if len(body) > size and (self.refuses_bytes or "binary_tensor_data" not in self.extensions):
            return in_json({"error": "failed to parse the request JSON buffer"}, 400)
        given = [each["name"] for each in header["inputs"]]
        needed = [each[0] for each in model.inputs if each[0] not in model.optional]
        if given != needed:
            message = f"expected {len(needed)} inputs but got {len(given)} inputs for model '{name}'"
            return in_json({"error": f"[request id: <id_unknown>] {message}"}, 400)
        texts = _texts(header["inputs"][0], data)
        if 0 < model.max_batch_size < len(texts):
            message = f"inference request batch-size must be <= {model.max_batch_size} for '{name}'"
            return in_json({"error": f"[request id: <id_unknown>] {message}"}, 400)
        (wanted,) = header["outputs"]
        target = next((each for each in model.outputs if each[0] == wanted["name"]), None)
        if target is None:
            return in_json({"error": f"unexpected inference output '{wanted['name']}' for model '{name}'"}, 400)
        self.asked.answered(texts)
        return self._answer(name, model, texts, target, wanted.get("parameters", {}).get("binary_data", False))

    def _answer(self, name: str, model: Model, texts: list[str], target: Tensor, binary: bool) -> Response:
        rows = vectors_of(texts, model.dim).astype(_TYPES[target[1]])
        shape = [len(texts), *[1] * (len(model.shape(target[2])) - 2), model.dim]
        output: dict[str, Any] = {"name": target[0], "datatype": target[1], "shape": shape}
        head = {"model_name": name, "model_version": "1"}
        if not binary:
            output["data"] = rows.astype(float).ravel().tolist()
            return in_json({**head, "outputs": [output]})
        output["parameters"] = {"binary_data_size": rows.nbytes}
        header = msgspec.json.encode({**head, "outputs": [output]})
        headers = {"Inference-Header-Content-Length": str(len(header))}
        return Response(header + rows.tobytes(), headers=headers, media_type="application/octet-stream")


def _described(model: Model, tensors: Sequence[Tensor]) -> list[dict[str, object]]:
    return [{"name": name, "datatype": kind, "shape": model.shape(dims)} for name, kind, dims in tensors]


def _texts(tensor: dict[str, Any], data: bytes) -> list[str]:
    """The elements of a BYTES tensor, of which there must be as many as its shape says."""
    assert tensor["datatype"] == "BYTES"
    if "data" in tensor:
        texts = tensor["data"]
    else:
        assert tensor["parameters"]["binary_data_size"] == len(data)
        texts = []
        while data:
            size = int.from_bytes(data[:4], "little")
            assert len(data) >= 4 + size
            texts.append(data[4 : 4 + size].decode())
            data = data[4 + size :]
    assert len(texts) == int(np.prod(tensor["shape"]))
    return texts


def _unknown(name: str) -> Response:
    return in_json({"error": f"Request for unknown model: '{name}' is not found"}, 404)


async def _no_page(_: Request, __: Exception) -> Response:
    return Response(status_code=404)
