"""The transport over TLS, with a certificate made for the occasion."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.actors.embedder.talking import Run, client_with, in_both_loops, request, serving

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")

BODY = bytes(range(256)) * 12_000


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for the name localhost."""
    pem = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    )
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", pem, "-out", f"{pem}.crt"],
        check=True,
        capture_output=True,
    )
    pem.write_text(pem.read_text() + Path(f"{pem}.crt").read_text())
    return pem


async def _replies(pem: Path, *lengths: bool, host: str = "localhost") -> list[bytes]:
    """Of one connection, with a length or in one chunk, to requests as large as they."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for length in lengths:
            _, body = await request(reader)
            framing = b"content-length: %d\r\n\r\n" if length else b"transfer-encoding: chunked\r\n\r\n%x\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\n" + framing % len(body) + body + b"\r\n0\r\n\r\n" * (not length))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        async with client_with() as client:
            url = f"https://{host}:{server.sockets[0].getsockname()[1]}/"
            replies = [(await client.post(url, content=BODY)).content for _ in lengths]
    finally:
        server.close()
    assert connections == 1
    return replies


@in_both_loops
def test_answers_over_tls(run: Run, pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert [reply == BODY for reply in run(_replies(pem, True, False, True))] == [True] * 3


@in_both_loops
def test_a_certificate_that_nobody_vouches_for(run: Run, pem: Path) -> None:
    with pytest.raises(
        httpx.ConnectError, match=r"certificate verify failed: self-signed certificate; SSL_CERT_FILE"
    ):
        run(_replies(pem, True))


def test_a_certificate_for_another_name(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with pytest.raises(httpx.ConnectError, match=r"not valid for '127\.0\.0\.1'"):
        asyncio.run(_replies(pem, True, host="127.0.0.1"))


@in_both_loops
def test_a_server_that_does_not_speak_tls(run: Run) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async def ask() -> None:
        async with serving(talk) as server, client_with() as client:
            await client.get(server.url.replace("http://", "https://"))

    with pytest.raises(httpx.ConnectError, match="does not speak TLS"):
        run(ask())
