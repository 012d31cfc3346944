"""A simulated GPU embedding server: real HTTP in front of `physics`, in a process of its own.

`python -m tests.servers.gpu.server --profile tei --port 0` prints `READY <port>` once it takes connections on
127.0.0.1. Each field of `Profile` is a flag, and can be changed at run time:

    POST /v1/embeddings, GET /v1/models, GET /health    as OpenAI; TEI's and Infinity's self-descriptions with them
    GET  /metrics       Prometheus: GPU utilisation as DCGM exporter tells it, queue size, counters
    POST /_profile      JSON of the fields to change; a `cold_s` makes the server cold again
    POST /_become       JSON of the fields that differ from the default: a new server, as after a restart
    POST /_capacity     {"factor": 0.3}: the GPUs are that fast from now on
    GET  /_stats        `Stats.report`
    POST /_reset        clears the stats; what is under way goes on, and counts when it ends
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import math
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop

from tests.servers.gpu import answers
from tests.servers.gpu.batches import Job, Outcome
from tests.servers.gpu.connection import Connection
from tests.servers.gpu.faults import RIGHT, Faults, Reply
from tests.servers.gpu.physics import Gpu
from tests.servers.gpu.profiles import PROFILES, Fault, Profile, changed
from tests.servers.gpu.stats import CLIENT_GONE, Gauge, Stats, prometheus

_TEXT = "text/plain; version=0.0.4"


@dataclasses.dataclass(slots=True)
class Asked:
    """What the answer to a job is made from."""

    connection: Connection
    texts: list[bytes]
    base64: bool
    fault: Fault | None


class Service:
    """The simulation on the wall clock, and the routes."""

    def __init__(self, profile: Profile, seed: int, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seed = seed
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._start(profile)
        self._routes: dict[tuple[str, str], Callable[[bytes], tuple[int, bytes, str]]] = {
            ("GET", "/health"): lambda _: _json({"status": "ok"}),
            ("GET", "/v1/models"): self._models,
            ("GET", "/models"): self._models,
            ("GET", "/info"): self._info,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/_stats"): lambda _: _json(self._stats.report(self._now())),
            ("POST", "/_reset"): self._reset,
            ("POST", "/_profile"): self._profile,
            ("POST", "/_become"): self._become,
            ("POST", "/_capacity"): self._capacity,
        }

    def _start(self, profile: Profile) -> None:
        answers.warm_up(profile)
        self._gpu = Gpu(profile, self._seed)
        self._faults = Faults(self._seed)
        self._stats = Stats(self._gpu, time.monotonic())
        self._gauge = Gauge()

    def handle(self, connection: Connection, method: str, path: str, body: bytes) -> None:
        if path in ("/v1/embeddings", "/embeddings") and method == "POST":
            self._embed(connection, body)
            return
        route = self._routes.get((method, path))
        status, answer, kind = (
            route(body) if route else (404, answers.openai_error("Not Found"), "application/json")
        )
        connection.respond(status, answer, kind)

    def leave(self, connection: Connection) -> None:
        if isinstance(connection.tag, Job):
            job, connection.tag = connection.tag, None
            self._open.discard(connection)
            now = self._now()
            if job.outcome is None:
                self._gpu.cancel(now, job)
                self._stats.end(now, job, CLIENT_GONE)

    def _embed(self, connection: Connection, body: bytes) -> None:
        now = self._now()
        profile = self._gpu.profile
        self._stats.begin()
        if fault := self._faults.draw(profile):
            self._stats.faults[fault] += 1
        try:
            if refusal := self._faults.refusal(profile, fault):
                raise refusal
            texts, base64 = answers.read(profile, body)
        except answers.Refused as refused:
            self._stats.refuse(refused.status)
            connection.respond(refused.status, refused.body, headers=refused.headers)
            return
        self._open.add(connection)
        asked = Asked(connection, texts, base64, fault)
        late_s = profile.hang_s if fault is Fault.HANG else 0.0
        connection.tag = self._gpu.send(now, answers.tokens_of(texts), asked, late_s)
        self._tick(now)

    def _now(self) -> float:
        """The time, with everything that happened until then done."""
        now = time.monotonic()
        self._tick(now)
        return now

    def _tick(self, now: float) -> None:
        for job in self._gpu.advance(now):
            self._answer(now, job)
        self._arm(now)

    def _arm(self, now: float) -> None:
        at = self._gpu.next_event
        if at is None or at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        # up to the next millisecond, the loop's own grain: a timer that comes early comes twice
        delay = math.ceil((at - now) * 1000) / 1000
        self._timer = self._loop.call_later(delay, self._ring)
        self._timer_at = at

    def _ring(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._tick(time.monotonic())

    def _answer(self, now: float, job: Job) -> None:
        asked = _asked(job)
        if asked.connection.tag is not job:
            if job.outcome is not Outcome.GONE:
                self._stats.end(now, job, CLIENT_GONE)
            return
        asked.connection.tag = None
        self._open.discard(asked.connection)
        right = job.outcome is Outcome.OK and asked.fault in RIGHT
        if job.outcome is Outcome.OK and asked.fault is Fault.DROPPED:
            self._stats.end(now, job, None, right)
            asked.connection.cut()
            return
        reply = self._reply(job, asked)
        self._stats.end(now, job, reply.status, right)
        if reply.cut:
            asked.connection.break_off(reply.status, reply.body)
        else:
            asked.connection.respond(reply.status, reply.body, reply.content_type, reply.headers)

    def _reply(self, job: Job, asked: Asked) -> Reply:
        profile = self._gpu.profile
        told = _ratelimit(self._gpu.quota_left(self._now())) if profile.tells_quota else ""
        if job.outcome is Outcome.OK:
            reply = self._faults.reply(profile, asked.fault, asked.texts, asked.base64, job.tokens)
            return dataclasses.replace(reply, headers=reply.headers + told)
        assert job.outcome is not None
        headers = f"retry-after: {profile.retry_after_s:g}\r\n" if job.outcome is Outcome.QUOTA else ""
        return Reply(*answers.failure(profile, job.outcome, len(job.lengths)), headers=headers + told)

    def _models(self, _: bytes) -> tuple[int, bytes, str]:
        profile = self._gpu.profile
        model: dict[str, Any] = {"id": profile.model, "object": "model", "created": 0, "owned_by": "rayembed-tests"}
        if profile.dialect == "infinity":
            waiting = self._gpu.waiting
            model["stats"] = {"batch_size": profile.batch_items, "queue_absolute": waiting, "queue_fraction": 0.0}
            if profile.text_cap:
                model["stats"]["queue_fraction"] = waiting / profile.text_cap
        return _json({"object": "list", "data": [model]})

    def _info(self, _: bytes) -> tuple[int, bytes, str]:
        profile = self._gpu.profile
        if profile.dialect != "tei":
            return 404, answers.openai_error("Not Found"), "application/json"
        return _json(
            {
                "model_id": profile.model,
                "model_type": {"embedding": {"pooling": "cls"}},
                "max_concurrent_requests": profile.text_cap,
                "max_batch_tokens": profile.batch_tokens,
                "max_batch_requests": None,
                "max_client_batch_size": profile.most_inputs,
                "max_input_length": 512,
                "auto_truncate": True,
                "version": "1.9.3",
            }
        )

    def _metrics(self, _: bytes) -> tuple[int, bytes, str]:
        now = self._now()
        return 200, prometheus(self._gpu, self._stats, self._gauge, now).encode(), _TEXT

    def _reset(self, _: bytes) -> tuple[int, bytes, str]:
        self._stats = Stats(self._gpu, self._now(), self._stats.in_flight)
        return _json({})

    def _profile(self, body: bytes) -> tuple[int, bytes, str]:
        try:
            fields = msgspec.json.decode(body, type=dict[str, Any])
            self._now()
            self._gpu.profile = changed(self._gpu.profile, fields)
        except msgspec.DecodeError as error:
            return 400, str(error).encode(), "text/plain"
        answers.warm_up(self._gpu.profile)
        if "cold_s" in fields:
            self._gpu.warm_anew()
        return _json(dataclasses.asdict(self._gpu.profile))

    def _become(self, body: bytes) -> tuple[int, bytes, str]:
        try:
            profile = changed(Profile(), msgspec.json.decode(body, type=dict[str, Any]))
        except msgspec.DecodeError as error:
            return 400, str(error).encode(), "text/plain"
        for connection in self._open:
            connection.tag = None
            connection.cut()
        self._open.clear()
        self._start(profile)
        return _json(dataclasses.asdict(profile))

    def _capacity(self, body: bytes) -> tuple[int, bytes, str]:
        try:
            speed = msgspec.json.decode(body, type=dict[str, float])["factor"]
        except (msgspec.DecodeError, KeyError) as error:
            return 400, str(error).encode(), "text/plain"
        return self._profile(msgspec.json.encode({"speed": speed}))


def _asked(job: Job) -> Asked:
    assert isinstance(job.tag, Asked)
    return job.tag


def _ratelimit(left: dict[str, tuple[float, float]]) -> str:
    return "".join(
        f"x-ratelimit-remaining-{name}: {int(remaining)}\r\nx-ratelimit-reset-{name}: {seconds:.3f}s\r\n"
        for name, (remaining, seconds) in left.items()
    )


def _json(value: object) -> tuple[int, bytes, str]:
    return 200, msgspec.json.encode(value), "application/json"


async def serve(profile: Profile, port: int, seed: int) -> None:
    """Serves on 127.0.0.1 until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    service = Service(profile, seed, loop)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(
        lambda: Connection(service), "127.0.0.1", port, family=socket.AF_INET, backlog=1024
    )
    print(f"READY {server.sockets[0].getsockname()[1]}", flush=True)
    await ended.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu_server", argument_default=argparse.SUPPRESS)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="one")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    for field in dataclasses.fields(Profile):
        parser.add_argument("--" + field.name.replace("_", "-"))
    given = vars(parser.parse_args())
    profile, port, seed = PROFILES[given.pop("profile")], given.pop("port"), given.pop("seed")
    try:
        profile = msgspec.convert(dataclasses.asdict(profile) | given, Profile, strict=False)
    except msgspec.ValidationError as error:
        parser.error(str(error))
    uvloop.run(serve(profile, port, seed))


if __name__ == "__main__":
    main()
