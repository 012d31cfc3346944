"""httpx's transport for answers of megabytes: HTTP/1.1 at a fraction of the CPU, no limit on connections.

A response has its body in memory that is used again, and so with no copy of it: see `body_of`. Read in httpx's own
ways it is copied.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import aiohappyeyeballs
import httpx

from actors.embedder.bodies import Bodies, Memory
from actors.embedder.connection import ClosedUnheardError, Connection, Reply, in_words

_KEEP_S = 30.0  # a connection that nobody uses
_NEXT_ADDRESS_S = 0.25  # until the next address of the same name is tried beside the first (RFC 8305)
_BODY = "rayembed.body"  # a key of a response's extensions: Memory, not unpacked


class _Origin(NamedTuple):
    """Where connections are interchangeable."""

    host: str
    port: int
    tls: bool


class WholeBodyTransport(httpx.AsyncBaseTransport):
    """Each request has a connection of its own, which is kept for the next. To be used in one event loop.

    Of the timeouts, `connect` is for all of connecting, and `read` for how long a request or its answer may stand
    still. A request is sent once more when the server closed a kept connection on it without a word. Knows neither
    proxies nor HEAD. `bodies` may serve several transports.
    """

    def __init__(self, bodies: Bodies | None = None) -> None:
        self._idle: dict[_Origin, deque[Connection]] = {}  # the last used is the last
        self._bodies = bodies or Bodies()
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError."""
        timeout = request.extensions.get("timeout", {})
        reply = await self._exchange(request, timeout.get("connect"), timeout.get("read"))
        return httpx.Response(
            reply.status,
            headers=reply.headers,
            stream=_Stream(reply.body, self._bodies),
            extensions={"http_version": b"HTTP/1.1", _BODY: reply.body},
        )

    async def aclose(self) -> None:
        for connections in self._idle.values():
            for each in connections:
                each.close()
        self._idle.clear()

    async def _exchange(self, request: httpx.Request, connect_s: float | None, read_s: float | None) -> Reply:
        origin = _origin(request.url)
        message = [_head(request), await request.aread()]
        connection, cut = self._kept(origin), None
        if connection is not None:
            try:
                return await self._over(connection, origin, message, read_s)
            except ClosedUnheardError as error:  # as may be when nobody used it for a while
                cut = error
        try:
            connection = await self._connected(origin, connect_s)
        except httpx.TransportError:
            if cut:
                raise cut from None  # it may be this very request that brought the server down
            raise
        return await self._over(connection, origin, message, read_s)

    async def _over(
        self, connection: Connection, origin: _Origin, message: Sequence[bytes], read_s: float | None
    ) -> Reply:
        reply = await connection.exchange(message, read_s)
        if connection.is_open:
            self._idle.setdefault(origin, deque()).append(connection)
        return reply

    def _kept(self, origin: _Origin) -> Connection | None:
        idle = self._idle.get(origin)
        since = asyncio.get_running_loop().time() - _KEEP_S
        while idle and idle[0].moved_at < since:
            idle.popleft().close()
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _connected(self, origin: _Origin, connect_s: float | None) -> Connection:
        try:
            async with asyncio.timeout(connect_s):
                return await self._connect(origin)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {connect_s} s") from error
        except (OSError, RuntimeError) as error:
            raise httpx.ConnectError(in_words(error)) from error

    async def _connect(self, origin: _Origin) -> Connection:
        loop = asyncio.get_running_loop()
        sock = await aiohappyeyeballs.start_connection(
            await _addresses(origin), happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, loop=loop
        )
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, connection = await loop.create_connection(
                lambda: Connection(self._bodies),
                sock=sock,
                ssl=self._certificates() if origin.tls else None,
                server_hostname=origin.host if origin.tls else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection

    def _certificates(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        return self._tls


async def body_of(response: httpx.Response) -> bytes | Memory:
    """The body, unpacked where it came packed, else with no copy: when `response` is closed it may be overwritten.

    A view of it that is still there (a memoryview, an array) keeps it from that. Raises httpx.DecodingError.
    """
    if "content-encoding" in response.headers:
        return await response.aread()
    body: Memory = response.extensions[_BODY]
    return body


class _Stream(httpx.AsyncByteStream):
    """A body as httpx reads it. Gives back the memory when closed."""

    def __init__(self, body: Memory, bodies: Bodies) -> None:
        self._body: Memory | None = body
        self._bodies = bodies

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body is not None:
            yield bytes(self._body)

    async def aclose(self) -> None:
        if self._body is not None:
            self._bodies.give(self._body)
        self._body = None


def _origin(url: httpx.URL) -> _Origin:
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 80)
    if url.scheme not in ("http", "https") or not url.host or port > 65535:
        raise httpx.UnsupportedProtocol(f"{url} is not the URL of a web server")
    return _Origin(url.raw_host.decode("ascii"), port, tls)


def _head(request: httpx.Request) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%s: %s" % header for header in request.headers.raw]
    return b"\r\n".join([*lines, b"", b""])


async def _addresses(origin: _Origin) -> Sequence[aiohappyeyeballs.AddrInfoType]:
    try:
        ipaddress.ip_address(origin.host)
    except ValueError:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return aiohappyeyeballs.addr_to_addr_infos((origin.host, origin.port)) or []  # with no thread
