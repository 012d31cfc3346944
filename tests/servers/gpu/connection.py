"""As much of HTTP/1.1 as embedding clients speak, in as few instructions as possible.

The server shares its two cores with the job it measures: a framework costs several times the simulation.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol, cast

_MOST_HEAD = 65536
_LENGTH = b"\r\ncontent-length:"
_CHUNKED = b"\r\ntransfer-encoding:"
_CLOSE = b"\r\nconnection: close"
_REASONS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus} | {499: "499 Client Gone"}


class Handler(Protocol):
    def handle(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        """Must call `connection.respond` once, now or later."""
        ...

    def leave(self, connection: Connection) -> None:
        """The client closed the connection while a request of it was open."""
        ...


class Connection(asyncio.Protocol):
    """One client's connection; its requests are answered one after the other."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._transport: asyncio.Transport
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 1
        self._open = False
        self._close = False
        self.tag: object = None
        """The handler's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            self._handler.leave(self)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= self._needed and not self._open:
            self._next()

    def respond(self, status: int, body: bytes, content_type: str = "application/json", headers: str = "") -> None:
        """Sends the answer; each of `headers` ends with CRLF. Nothing happens when the client has left."""
        if self._transport.is_closing():
            return
        self._transport.write(_head(status, len(body), content_type, headers))
        if body:
            self._transport.write(body)
        self._open = False
        if self._close:
            self._transport.close()
        elif self._size:
            asyncio.get_running_loop().call_soon(self._next)

    def break_off(self, status: int, body: bytes) -> None:
        """Sends the half of the body that was announced, and closes the connection."""
        if not self._transport.is_closing():
            self._transport.write(_head(status, len(body), "application/json", "") + body[: len(body) // 2])
            self._transport.close()

    def cut(self) -> None:
        """Closes it without an answer."""
        self._transport.abort()

    def _next(self) -> None:
        """Handles the next request if it is complete."""
        if self._open or self._transport.is_closing():
            return
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = [data]
        end = data.find(b"\r\n\r\n", 0, _MOST_HEAD)
        if end < 0:
            self._needed = len(data) + 1
            if len(data) > _MOST_HEAD:
                self._refuse(431)
            return
        head = data[: end + 2].lower()
        if _CHUNKED in head:
            self._refuse(411)
            return
        try:
            method, target, _ = data[: data.index(b"\r\n")].decode("ascii").split(" ")
            length = _content_length(head)
        except ValueError:
            self._refuse(400)
            return
        body_at = end + 4
        self._needed = body_at + length
        if len(data) < self._needed:
            return
        rest = data[self._needed :]
        self._parts, self._size, self._needed = [rest] if rest else [], len(rest), 1
        self._close = _CLOSE in head
        self._open = True
        self._handler.handle(self, method, target.partition("?")[0], data[body_at : body_at + length])

    def _refuse(self, status: int) -> None:
        self._close = True
        self.respond(status, b"")


def _head(status: int, length: int, content_type: str, headers: str) -> bytes:
    head = (
        f"HTTP/1.1 {_REASONS[status]}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{headers}\r\n"
    )
    return head.encode()


def _content_length(head: bytes) -> int:
    at = head.find(_LENGTH)
    if at < 0:
        return 0
    at += len(_LENGTH)
    return int(head[at : head.index(b"\r\n", at)])
