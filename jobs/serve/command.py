"""`rayembed serve`: one process that serves one model."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from typing import Literal

import uvicorn

from actors.errors import UserError
from jobs.serve.app import create_app
from jobs.serve.backends import DEFAULT_MODEL, Backend, load_backend
from jobs.serve.engine import Engine

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
Batching = Literal["dynamic", "request"]
DEFAULT_BATCHING: Batching = "dynamic"
# Longer than a client's pause between requests, so that the server is never the one to drop a pooled connection.
_KEEP_ALIVE_S = 120
_GRACE_S = 5


def serve(
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    model: str = DEFAULT_MODEL,
    device: str | None = None,
    api_key_env: str | None = None,
    batching: Batching = DEFAULT_BATCHING,
    max_batch_tokens: int | None = None,
) -> None:
    """Serves `model` until SIGINT or SIGTERM; one line on stderr says where, once it answers. Port 0: any free one.

    `model` is `wordllama` or the folder of a sentence-transformers model, `device` a PyTorch device name for the
    latter, `api_key_env` the environment variable that holds the key clients must send. With `batching` "dynamic"
    the model is given texts of like length from all requests that wait, with "request" one request at a time; in
    both at most `max_batch_tokens` at once, padding included (None: what fills the device). Raises UserError for a
    port that is taken, an address or device that is not there, a model that cannot be loaded, an unset variable.
    """
    if max_batch_tokens is not None and max_batch_tokens < 1:
        raise UserError(f"--max-batch-tokens {max_batch_tokens}: must be at least 1")
    api_key = _api_key(api_key_env)
    with _bound(host, port) as listener:
        backend = load_backend(model, device)
        config = uvicorn.Config(
            create_app(backend, api_key, Engine(backend, max_batch_tokens, merge=batching == "dynamic")),
            log_level="warning",
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        with _named_in_errors(host, port):
            listener.listen(config.backlog)
        # uvicorn raises the signal that stopped it again once it has finished.
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, _ready_line(backend, listener)).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready_line: str) -> None:
        super().__init__(config)
        self._ready_line = ready_line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._ready_line, file=sys.stderr, flush=True)


def _ready_line(backend: Backend, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"serving {backend.name} ({backend.dim}-dim) at http://{shown}:{port}/v1"


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    value = os.environ.get(variable, "")
    if not value:
        raise UserError(f"--api-key-env {variable}: no such environment variable, or an empty one; export it first")
    return value


def _bound(host: str, port: int) -> socket.socket:
    """A socket that holds the port and does not listen yet, so that nobody connects to a model still loading."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: a port is a number from 0 to 65535")
    with _named_in_errors(host, port):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere this option lets two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    return listener


@contextlib.contextmanager
def _named_in_errors(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} on {host} is taken: choose another with --port, 0 for any") from None
        raise UserError(f"cannot listen on --host {host} --port {port}: {error}") from None
