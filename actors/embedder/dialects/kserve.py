"""KServe v2, as Triton speaks it: tensors in, tensors out, as bytes where the server has the extension for that.

Which tensors they are is read from the model's page (see kserve_tensors.py), or told by the user as the encoding.
Source: the open inference protocol, Triton's extension for binary data and its server's code, 2.73.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from actors.embedder.dialects.base import Answer, Body, Decoding, Description, Looking, Reply, Request
from actors.embedder.dialects.embedding_list import MARK, Vectors
from actors.embedder.dialects.errors import fault
from actors.embedder.dialects.kserve_tensors import EXAMPLE, Config, Metadata, Tensors, choose, parse
from actors.embedder.dialects.openai import root
from actors.embedder.dialects.pages import told
from actors.embedder.dialects.rows import UNREADABLE, Rows, are_marks, first_list, start_of
from actors.embedder.faults import Fault, Kind
from actors.errors import UserError
from actors.messages import Endpoint, Limits

JSON_BYTES = "Inference-Header-Content-Length"  # of a body in which bytes follow
_BINARY = "binary_tensor_data"
_MOST_BYTES = 64 << 20  # that Triton takes unless told otherwise
_STEP_VALUES = 1 << 20  # are copied in a millisecond or so; then others may run
_TYPES = {"FP32": "<f4", "FP16": "<f2", "BF16": "<u2", "FP64": "<f8"}
_encode = msgspec.json.Encoder().encode


class _Server(msgspec.Struct):
    name: str
    extensions: list[str]
    version: str = ""


class _Indexed(msgspec.Struct):
    name: str
    state: str = ""


class _Parameters(msgspec.Struct):
    binary_data_size: int | None = None


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: _Parameters | None = None
    data: Any = None


class _Reply(msgspec.Struct):
    outputs: list[_Output]


_decode_server = msgspec.json.Decoder(_Server)
_decode_index = msgspec.json.Decoder(list[_Indexed])
_decode_metadata = msgspec.json.Decoder(Metadata)
_decode_config = msgspec.json.Decoder(Config)
_decode_reply = msgspec.json.Decoder(_Reply).decode


class KServe:
    def __init__(self) -> None:
        self._rows = Rows()

    def describe(self, url: str, model: str) -> Looking:
        """Raises Fault where the server is there and the model is not."""
        base = _base(url)
        server = told((yield Request("GET", f"{base}/v2")), _decode_server)
        names: tuple[str, ...] = ()
        if server:
            index = told((yield Request("POST", f"{base}/v2/repository/index")), _decode_index)
            names = tuple(dict.fromkeys(each.name for each in index or [] if each.state in ("READY", "")))
        only = model or (names[0] if len(names) == 1 else "")
        if not only:
            return _describe_server(base, server, names, "") if server else None
        about = f"{base}/v2/models/{quote(only, safe='')}"
        page = yield Request("GET", about)
        metadata = told(page, _decode_metadata)
        if metadata is None:
            if server is None:
                return None
            raise _unreadable(page)
        config = told((yield Request("GET", f"{about}/config")), _decode_config)
        binary = server is not None and _BINARY in server.extensions
        return _describe_model(_describe_server(base, server, names, only), only, metadata, config, binary)

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        """Raises UserError where the encoding does not say which tensors are meant."""
        tensors = parse(endpoint.encoding)
        if tensors is None:
            raise UserError(_unclear(endpoint))
        route = endpoint.route or _route(_base(endpoint.url), endpoint.model)
        source = {
            "name": tensors.source,
            "shape": [len(texts), 1] if tensors.column else [len(texts)],
            "datatype": "BYTES",
        }
        target = {"name": tensors.target}
        if not tensors.binary:
            body = {"inputs": [{**source, "data": texts}], "outputs": [target]}
            return Request("POST", route, _encode(body))
        data = b"".join(_elements(texts))
        header = _encode(
            {
                "inputs": [{**source, "parameters": {"binary_data_size": len(data)}}],
                "outputs": [{**target, "parameters": {"binary_data": True}}],
            }
        )
        headers = {JSON_BYTES: str(len(header)), "Content-Type": "application/octet-stream"}
        return Request("POST", route, header + data, headers)

    def answer(self, reply: Reply, texts: int) -> Decoding:
        body = reply.body
        size = _header_size(reply.headers.get(JSON_BYTES.lower(), ""))
        if size is None:
            return Answer((yield from self._from_json(body, texts)), None)
        output = _only_output(bytes(memoryview(body)[:size]))
        dim = _dim(output, texts)
        if output.parameters is None or output.parameters.binary_data_size is None:
            raise _wrong("the answer is said to be in bytes, and its tensor is not", body)
        item = np.dtype(_TYPES[output.datatype]).itemsize
        if not output.parameters.binary_data_size == len(body) - size == texts * dim * item:
            said = output.parameters.binary_data_size
            raise _wrong(f"{said} bytes are told and {len(body) - size} came for {output.shape}", body)
        return Answer((yield from _from_bytes(body, size, output, texts, dim)), None)

    def _from_json(self, body: Body, texts: int) -> Generator[None, None, Vectors]:
        """float32[texts, dim]; of numbers in one list, or of a list in it for each text."""
        start = first_list(body, b"data")
        if start is not None:
            flat = not bytes(memoryview(body)[start : start + 64]).lstrip().startswith(b"[")
            came = yield from self._rows.flat(body, start) if flat else self._rows.nested(body, start, texts)
            if came:
                values, rest = came
                output = _only_output(rest)
                dim = _dim(output, texts)
                marked = output.data == MARK if flat else isinstance(output.data, list) and _marked(output, texts)
                if marked and values.shape == ((1, texts * dim) if flat else (texts, dim)):
                    return values.reshape(texts, dim)
        return _read_plainly(body, texts)


def _describe_server(base: str, server: _Server | None, names: tuple[str, ...], model: str) -> Description:
    is_triton = server is not None and server.name == "triton"
    return Description(
        server=f"{server.name} {server.version} (KServe v2)" if server else "KServe v2",
        route=_route(base, model),
        encodings=("",),
        models=names,
        limits=Limits(bytes_per_request=_MOST_BYTES if is_triton else None),
        told={
            **({"server": "/v2"} if server else {}),
            **({"models": "/v2/repository/index"} if names else {}),
        },
    )


def _describe_model(
    found: Description, model: str, metadata: Metadata, config: Config | None, binary: bool
) -> Description:
    choice = choose(metadata, config or Config(), binary)
    page, most = f"/v2/models/{model}", None
    where = {**found.told, "encodings": page}
    if choice and choice.dim:
        where["dim"] = page
    if choice and choice.one_by_one:
        most, where["texts_per_request"] = 1, page
    if config:
        where["batching"] = f"{page}/config"
    if config and config.max_batch_size > 0:
        most, where["texts_per_request"] = config.max_batch_size, f"{page}/config"
    return replace(
        found,
        encodings=_encodings(choice.tensors) if choice else (str(metadata),),
        dim=choice.dim if choice else None,
        batching=_batching(config),
        limits=replace(found.limits, texts_per_request=most),
        told=where,
        switches={"tokens_per_gpu_batch": "max_batch_size and the count of instance_group in the model's config"},
    )


def _encodings(tensors: Tensors) -> tuple[str, ...]:
    return (str(tensors), str(tensors.in_json())) if tensors.binary else (str(tensors),)


def _batching(config: Config | None) -> str:
    if config is None:
        return ""
    if config.max_batch_size > 0 and config.dynamic_batching is not None:
        return f"merges requests, up to {config.max_batch_size} texts (dynamic_batching)"
    return "merges nothing: the texts of one request are one batch of the GPU"


def _unclear(endpoint: Endpoint) -> str:
    """The encoding is what `describe` wrote of a model it could not decide on, or what the user did."""
    given = endpoint.encoding
    if given.startswith("takes "):
        what = (
            f"model '{endpoint.model}' {given}; of these one input, of BYTES, can be filled, and it is not clear "
            f"which, or where vectors come out: say it with encoding: in endpoints:, such as '{EXAMPLE}'"
        )
    elif given:
        what = f"encoding: '{given}' is not of the form '{EXAMPLE}' (or [N], or json)"
    else:
        what = f"the model does not tell its tensors; name them with encoding: in endpoints:, such as '{EXAMPLE}'"
    return f"{endpoint.url}: {what}"


def _unreadable(page: Reply | None) -> Fault:
    if page is None:
        return Fault(Kind.TRANSPORT, "the model's page does not come")
    return fault(page) if page.status != 200 else _wrong("the model's page cannot be read", page.body)


def _elements(texts: Sequence[str]) -> Iterator[bytes]:
    for text in texts:
        encoded = text.encode()
        yield len(encoded).to_bytes(4, "little")
        yield encoded


def _header_size(given: str) -> int | None:
    """None: the whole answer is JSON. Raises Fault where it is no number."""
    if not given:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 12):
        raise Fault(Kind.WRONG_ANSWER, f"{JSON_BYTES} is '{given[:20]}'")
    return int(given)


def _only_output(header: Body) -> _Output:
    try:
        outputs = _decode_reply(header).outputs
    except UNREADABLE as error:
        raise _wrong(f"the answer is not one of tensors ({error})", header) from None
    if len(outputs) != 1:
        raise _wrong(f"{len(outputs)} tensors came, one was asked for", header)
    return outputs[0]


def _dim(output: _Output, texts: int) -> int:
    """Of floats of a shape [texts, dim], with ones between them as the case may be. Raises Fault."""
    shape = output.shape
    if texts == 1 and len(shape) == 1:
        shape = [1, *shape]
    if len(shape) < 2 or shape[0] != texts or shape[-1] < 1 or any(size != 1 for size in shape[1:-1]):
        raise Fault(Kind.WRONG_ANSWER, f"a tensor of shape {output.shape} came for {texts} texts"[:200])
    if output.datatype not in _TYPES:
        raise Fault(Kind.WRONG_ANSWER, f"a tensor of {output.datatype[:20]!r} came, and no floats")
    return shape[-1]


def _from_bytes(body: Body, start: int, output: _Output, texts: int, dim: int) -> Generator[None, None, Vectors]:
    values = np.frombuffer(body, _TYPES[output.datatype], texts * dim, start)
    vectors = np.empty(texts * dim, np.float32)
    for done in range(0, len(values), _STEP_VALUES):
        if done:
            yield
        some = values[done : done + _STEP_VALUES]
        if output.datatype == "BF16":  # the upper half of a float32
            some = (some.astype(np.uint32) << 16).view(np.float32)
        vectors[done : done + _STEP_VALUES] = some
    return vectors.reshape(texts, dim)


def _marked(output: _Output, texts: int) -> bool:
    return all(type(each) is int for each in output.data) and are_marks(output.data, texts)


def _read_plainly(body: Body, texts: int) -> Vectors:
    """Numbers in one list, or in one for each text, which may be in lists of one. Raises Fault."""
    output = _only_output(body)
    dim, data = _dim(output, texts), output.data
    flat = isinstance(data, list) and len(data) == texts * dim and not isinstance(data[0], list)
    rows = [data[i : i + dim] for i in range(0, len(data), dim)] if flat else data
    rows = [_unwrapped(row) for row in rows] if isinstance(rows, list) else []
    if len(rows) != texts or not all(_is_numbers(row, dim) for row in rows):
        raise _wrong(f"the tensor's data are not {texts} x {dim} numbers", body)
    try:
        return np.array(rows, np.float64).astype(np.float32)
    except OverflowError:  # a whole number that no float can be
        raise _wrong("the tensor holds a number out of all range", body) from None


def _unwrapped(row: object) -> object:
    while isinstance(row, list) and len(row) == 1 and isinstance(row[0], list):
        row = row[0]
    return row


def _is_numbers(row: object, count: int) -> bool:
    return isinstance(row, list) and len(row) == count and all(type(value) in (int, float) for value in row)


def _wrong(what: str, body: Body) -> Fault:
    return Fault(Kind.WRONG_ANSWER, f"{what}: {start_of(body)}")


def _base(url: str) -> str:
    return root(url.removesuffix("/v2"))


def _route(base: str, model: str) -> str:
    return f"{base}/v2/models/{quote(model, safe='')}/infer"
