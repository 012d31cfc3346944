"""A web server of files in memory, with or without parts of them (range requests), that can fail for a while."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """`files` by name; `gives_parts`: it answers range requests; `says_size`: it tells how large a file is.

    The next `failures` requests for content are answered with 503, all with 403 where it is `forbidden`. `sent`
    counts bytes of files.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    gives_parts: bool = True
    says_size: bool = True
    failures: int = 0
    forbidden: bool = False
    sent: int = 0


@contextmanager
def file_server() -> Iterator[FileServer]:
    """One that runs until the block ends."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            content = state.files.get(self.path.partition("?")[0].lstrip("/"))
            if state.failures and body:
                state.failures -= 1
                return self._send(503, b"", {}, body)
            if state.forbidden:
                return self._send(403, b"", {}, body)
            if content is None:
                return self._send(404, b"", {}, body)
            headers = {"ETag": f'"{hash(content):x}"'}
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked and state.gives_parts:
                first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                return self._send(206, content[first : last + 1], headers, body)
            return self._send(200, content, headers, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if state.says_size or (not body and not content):
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if body:
                state.sent += len(content)
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Who hangs up is no error here."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
