"""How one actor calls another: every call has a timeout here, and is said again as long as that can help."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.exceptions import RayActorError
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_random_exponential

from actors.errors import FAILED, UserError
from actors.messages import Claim, Grant, Orders, Report

# Names within the job's own namespace. Not handles in arguments: Ray keeps those in its object store
QUEUE, DRIVER = "queue", "driver"

_CALL_S = 5.0
_QUEUE_AWAY_S = 120.0  # a restart takes 2 s, on a busy machine several times that

_LOST = (RayActorError, TimeoutError)


class RayQueue:
    """The queue actor as an embedder's QueuePort. A claim said twice is answered the same, so it may be."""

    def __init__(self) -> None:
        self._queue = ray.get_actor(QUEUE)

    async def claim(self, claim: Claim) -> Grant:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_LOST),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(_QUEUE_AWAY_S),
        )
        try:
            grant: Grant = await attempts(_call, self._queue.claim, claim)
        except RetryError as error:
            raise UserError(
                f"the queue has not answered for {_QUEUE_AWAY_S:.0f} s; run again to go on", FAILED
            ) from error
        return grant


class RayDriver:
    """The driver actor as an embedder's DriverPort. The driver is advisory: a lost report is only lost."""

    def __init__(self) -> None:
        self._driver = ray.get_actor(DRIVER)

    async def report(self, report: Report) -> Orders | None:
        try:
            orders: Orders = await _call(self._driver.report, report)
        except _LOST:
            return None
        return orders


async def _call(method: Any, *args: object) -> Any:
    async with asyncio.timeout(_CALL_S):
        return await method.remote(*args)
