"""A server of pages that a test writes, and what was asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class Pages:
    """`shown` by path, with a status; what is not there is 404. `asked`: path and key of each request."""

    url: str = ""
    shown: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)  # paths that are never answered
    to: str = ""  # where a 302 leads
    over: Event = field(default_factory=Event)

    def times(self, path: str) -> int:
        return sum(each == path for each, _ in self.asked)


@contextmanager
def serve_pages() -> Iterator[Pages]:
    pages = Pages()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages.asked.append((self.path, self.headers["authorization"]))
            if self.path in pages.silent:
                pages.over.wait()
                return
            status, text = pages.shown.get(self.path, (404, ""))
            self.send_response(status)
            if status == 302:
                self.send_header("location", pages.to)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    pages.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield pages
    finally:
        pages.over.set()
        server.shutdown()
        server.server_close()
