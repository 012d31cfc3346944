"""httpx's transport over aiohttp: answers of megabytes at a third of the CPU of httpx's own.

Each answer is read whole. Passed on in pieces, as httpx does, it costs more than to be received.
"""

from __future__ import annotations

import aiohttp
import httpx

_KEEP_S = 30.0
_BUFFER_BYTES = 1 << 22  # of one answer that may wait to be taken, before the server has to


class WholeBodyTransport(httpx.AsyncBaseTransport):
    """As many connections as are asked for. Its errors are aiohttp.ClientError and OSError, not httpx's own."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        timeout = request.extensions["timeout"]
        async with self._opened().request(
            request.method,
            str(request.url),
            headers=request.headers,
            data=request.content or None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(sock_connect=timeout["connect"], sock_read=timeout["read"]),
        ) as response:
            content = await response.read()
            return httpx.Response(response.status, headers=response.raw_headers, content=content, request=request)

    async def aclose(self) -> None:
        if self._session:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # needs the running loop
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_S, ssl=httpx.create_ssl_context())
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, read_bufsize=_BUFFER_BYTES
            )
        return self._session
