"""One HTTP/1.1 connection as a client sees it: a request at a time, each answer read whole.

The body of an answer that says how long it is goes from the socket to where it is decoded, with no copy between.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import httptools
import httpx

from actors.embedder.bodies import Bodies, Memory

_ROOM_BYTES = 1 << 16  # for what has no place of its own yet
_FIRST_BYTES = 1 << 12  # of an answer: a head, and little of the body, which is copied from here
_MOST_HEAD_BYTES = 1 << 20  # vLLM's 'bytes' says in a header where each vector is: 110 bytes a text
_MOST_BODY_BYTES = 1 << 31
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")


class ClosedUnheardError(httpx.ReadError):
    """The server closed the connection before it said anything."""


@dataclass(slots=True)
class Reply:
    """An answer; the names of `headers` are in lower case, `body` may be given back to the `Bodies`."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: Memory


class Connection(asyncio.BufferedProtocol):
    """Ends with the first answer that leaves in doubt what comes next."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._loop = asyncio.get_running_loop()
        self._room = memoryview(bytearray(_ROOM_BYTES))
        self._transport: asyncio.Transport
        self._answer: _Answer | None = None
        self._waiter: asyncio.Future[Reply]
        self._timer: asyncio.TimerHandle | None = None
        self._patience_s = 0.0
        self._unsent = 0  # bytes of the request, when last looked at
        self.moved_at = 0.0
        """Loop time when bytes last went over it."""

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        """At once, whatever is under way."""
        self._transport.abort()

    async def exchange(self, request: Sequence[bytes], patience_s: float | None) -> Reply:
        """The answer to `request`. Neither of them may stand still for `patience_s`.

        Raises httpx.TransportError; then, as when cancelled, the connection is closed.
        """
        if not self.is_open:
            raise ClosedUnheardError("the server closed the connection")
        self._answer = _Answer(self._bodies)
        self._waiter = self._loop.create_future()
        self.moved_at = self._loop.time()
        try:
            self._transport.writelines(request)
            self._unsent = self._transport.get_write_buffer_size()
            if patience_s is not None:
                self._patience_s = patience_s
                self._timer = self._loop.call_later(patience_s, self._look_at_the_clock)
            return await self._waiter
        except BaseException:
            self._drop()
            raise
        finally:
            if self._timer:
                self._timer.cancel()
                self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def resume_writing(self) -> None:
        self.moved_at = self._loop.time()  # most of the request has gone out only now

    def get_buffer(self, _: int) -> memoryview:
        answer = self._answer
        if answer is None or not answer.status:
            return self._room[:_FIRST_BYTES]
        return answer.place[answer.received :] if answer.place is not None else self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.moved_at = self._loop.time()
        answer = self._answer
        if answer is None:  # the server speaks without being asked
            self.close()
        elif answer.place is not None:
            answer.received += nbytes
            if answer.received == len(answer.place):
                self._finish(answer)
        else:
            self._read(answer, self._room[:nbytes])

    def connection_lost(self, error: Exception | None) -> None:
        answer = self._answer
        if answer is None:
            return
        if answer.ends_with_connection and error is None:
            self._finish(answer)
        elif answer.heard_bytes:
            self._fail(httpx.ReadError(f"the connection ended within an answer{_because(error)}"))
        else:
            self._fail(ClosedUnheardError(f"the server closed the connection{_because(error)}"))

    def _read(self, answer: _Answer, data: memoryview) -> None:
        try:
            answer.read(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not answer.complete:
                why = f"the answer is not HTTP: {error.__context__ or error}"
                self._fail(httpx.RemoteProtocolError(why))
                return
            answer.keep_alive = False  # more came than was asked for
        if answer.complete:
            self._finish(answer)
        elif answer.lent is not None and not self._bodies.may_fill(answer.lent, partial(self._go_on, answer)):
            answer.has_to_wait = True  # the server keeps the rest
            self._transport.pause_reading()

    def _go_on(self, answer: _Answer) -> None:
        if answer is self._answer and not self._transport.is_closing():
            answer.has_to_wait = False
            self.moved_at = self._loop.time()
            self._transport.resume_reading()

    def _finish(self, answer: _Answer) -> None:
        self._answer = None
        if not answer.keep_alive or self._transport.get_write_buffer_size():  # answered before all was sent
            self.close()
        elif answer.has_to_wait:  # what came behind TLS was here already
            self._transport.resume_reading()
        if not self._waiter.done():  # not cancelled
            self._waiter.set_result(answer.reply())

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.give_up()
        self._answer = None
        self.close()

    def _fail(self, error: httpx.TransportError) -> None:
        self._drop()
        if not self._waiter.done():
            self._waiter.set_exception(error)

    def _look_at_the_clock(self) -> None:
        now, unsent = self._loop.time(), self._transport.get_write_buffer_size()
        if unsent < self._unsent or (self._answer and self._answer.has_to_wait):
            self._unsent, self.moved_at = unsent, now
        left_s = self.moved_at + self._patience_s - now
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look_at_the_clock)
        elif self._answer is not None:
            self._fail(httpx.ReadTimeout(f"nothing came for {self._patience_s:g} s"))


class _Answer:
    """What has come of an answer. Its methods named `on_` are the parser's to call."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces = bytearray()  # of a body that does not say how long it is
        self.heard_bytes = 0
        self.status = 0  # until the head is there
        self.place: memoryview | None = None
        """Where a body of known length goes; `received` bytes of it are there."""
        self.received = 0
        self.lent: Memory | None = None
        """The memory of `place`."""
        self.has_to_wait = False  # the bytes that are still to come
        self.ends_with_connection = self.keep_alive = self.complete = False

    def read(self, data: memoryview) -> None:
        """Raises HttpParserError when it is no HTTP, and for whatever goes wrong in the methods below."""
        self.heard_bytes += len(data)
        self._parser.feed_data(data)
        if not self.status and self.heard_bytes > _MOST_HEAD_BYTES:
            raise httptools.HttpParserError("its head has no end")

    def reply(self) -> Reply:
        if self.lent is None or self.place is None:
            return Reply(self.status, self._headers, self._pieces)
        reply = Reply(self.status, self._headers, self.lent)
        self.give_up()
        return reply

    def give_up(self) -> None:
        """Hold no memory any more: the parser and this hold each other, and go only with the next garbage."""
        if self.place is not None:
            self.place.release()
        self.place = self.lent = None

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("a second answer came")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it is a trailer
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # another answer follows
        self.status = status
        self.keep_alive = self._parser.should_keep_alive()
        headers = dict(self._headers)
        coding = headers.get(b"transfer-encoding")
        if coding is None and b"content-length" in headers and status not in (204, 304):
            size = int(headers[b"content-length"])
            _check_size(size)
            self.lent = self._bodies.take(size)
            self.place = memoryview(self.lent)
        else:
            self.ends_with_connection = coding is None or b"chunked" not in coding.lower()

    def on_body(self, data: bytes) -> None:
        if self.place is not None:
            self.place[self.received : self.received + len(data)] = data
            self.received += len(data)
        else:
            _check_size(len(self._pieces) + len(data))
            self._pieces += data

    def on_message_complete(self) -> None:
        self.complete = bool(self.status)


def _check_size(size: int) -> None:
    if size > _MOST_BODY_BYTES:
        raise ValueError(f"a body of {size:,} bytes")


def _because(error: Exception | None) -> str:
    return f": {in_words(error)}" if error else ""


def in_words(error: BaseException) -> str:
    """The system's own words where there are some, and what to do about a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"certificate verify failed: {why}; SSL_CERT_FILE can name a file of those to trust"
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return "it does not speak TLS; http:// may be what it wants"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        return os.strerror(cast(int, error.errno)).lower()
    return str(error) or type(error).__name__
