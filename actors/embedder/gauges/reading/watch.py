"""One page of metrics, fetched now and then, and what it told last of each endpoint."""

from __future__ import annotations

import math
import os
import ssl
import time
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import httpx

from actors.embedder.gauges.base import Depth, PageGauge, Share
from actors.embedder.gauges.page import Page
from actors.embedder.gauges.reading.freshness import Freshness
from actors.messages import GpuSample, QueueSample

_EVERY_S = 1.0
_AGAIN_S = 30.0  # a page that did not come
_LOST_S = 10.0  # what it told is forgotten when it no longer comes
_TIMEOUT_S, _WHOLE_S = 2.0, 5.0  # for the next bytes, and for all of it
_MOST_BYTES = 4 << 20


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)  # takes tens of milliseconds


class _Told(NamedTuple):
    at: float
    gpu: Share | None
    gauge: PageGauge | None  # of `gpu`
    queues: dict[str, tuple[Depth, str]]  # by model, with the word for the server


_NOTHING = _Told(-math.inf, None, None, {})


class Watch:
    """`look` and `close` are called by a thread of its own.

    A page that tells of GPU and queue is fetched once for both.
    """

    def __init__(
        self, url: str, key_env: str | None, models: Sequence[str], kinds: Sequence[PageGauge], *, named: bool
    ) -> None:
        """`key_env` names the variable that holds the key; `named`: the user says that there is something."""
        self.url = url
        self._key_env = key_env
        self._models = models
        self._kinds = kinds
        self._named = named
        self._client: httpx.Client | None = None
        self._told = _NOTHING
        self._fresh: dict[str, Freshness] = {}

    def look(self) -> float:
        """Fetch it once. Seconds until it is worth while again, infinite when it never will be."""
        try:
            status, text = self._fetch()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):  # nobody there, or nonsense
            return _AGAIN_S
        told = self._read(Page(text), time.monotonic()) if status == 200 else _NOTHING
        if told.gpu or told.queues:
            self._told = told
            return _EVERY_S
        may_yet = self._named or self._told is not _NOTHING or status == 429 or (status >= 500 and status != 501)
        return _AGAIN_S if may_yet else math.inf

    def gpu(self) -> tuple[GpuSample, bool] | None:
        """And whether it is too old to steer by."""
        told, now = self._told, time.monotonic()
        if told.gpu is None or told.gauge is None or now - told.at > _LOST_S:
            return None
        fresh = self._fresh[told.gauge.source]
        return GpuSample(told.gpu.value, told.gpu.source, fresh.age_s(now)), fresh.slow

    def queue(self, model: str) -> QueueSample | None:
        told, now = self._told, time.monotonic()
        if model not in told.queues or now - told.at > _LOST_S:
            return None
        (waiting, running), source = told.queues[model]
        return QueueSample(waiting, running, source, now - told.at)

    def close(self) -> None:
        if self._client:
            self._client.close()

    def _fetch(self) -> tuple[int, str]:
        if self._client is None:  # one that follows no redirects: they might lead the key astray
            self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False, verify=_certificates())
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        headers = {"authorization": f"Bearer {key}"} if key.isascii() and key.isprintable() and key else {}
        until = time.monotonic() + _WHOLE_S
        with self._client.stream("GET", self.url, headers=headers) as answer:
            body = bytearray()
            for some in answer.iter_bytes():
                body += some
                if len(body) > _MOST_BYTES or time.monotonic() > until:
                    raise httpx.ReadError("too large, or too slow")
        return answer.status_code, body.decode(errors="replace")

    def _read(self, page: Page, now: float) -> _Told:
        gpu, gauge = None, None
        queues: dict[str, tuple[Depth, str]] = {}
        for kind in self._kinds:
            if gpu is None and (gpu := kind.gpu(page)):
                gauge = kind
                self._fresh.setdefault(kind.source, Freshness(kind.period_s)).look(page.family(kind.family), now)
            for model in self._models:
                if model not in queues and (depth := kind.queue(page, model)):
                    queues[model] = depth, kind.source
        return _Told(now, gpu, gauge, queues)
