"""The driver as a Ray actor: a shell around the controller that adds the clock, the tick and the telemetry file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from actors.driver.controller import Controller
from actors.driver.metrics import RayMetrics, samples
from actors.driver.telemetry import last_settings, open_telemetry
from actors.driver.tuning import DEFAULT_POLICY, POLICIES, Bounds
from actors.driver.verdict import Known
from actors.messages import DriverStatus, Endpoint, Orders, Report

TICK_S = 0.25


class DriverActor:
    """Advisory: it may die at any time, and the job goes on with the last orders until it is back.

    It then goes on from the settings in its own telemetry of this job, which began at the stamp `job_began`.
    """

    def __init__(self, endpoints: Sequence[Endpoint], bounds: dict[str, Bounds], out: str, job_began: str) -> None:
        """`bounds` of each endpoint, by URL."""
        make_policy = POLICIES[DEFAULT_POLICY]
        before = last_settings(out, job_began)
        self._controller = Controller(
            {url: make_policy(each, before.get(url)) for url, each in bounds.items()},
            {each.url: Known(each, bounds[each.url]) for each in endpoints},
        )
        self._telemetry = open_telemetry(out)
        self._metrics = RayMetrics(out)
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def report(self, report: Report) -> Orders:
        return self._controller.report(report, time.monotonic())

    async def status(self) -> DriverStatus:
        """The pool as of the last tick. Raises what ended the ticking, if something did."""
        if self._ticking.done():
            self._ticking.result()
        return self._controller.status()

    async def save(self) -> None:
        """The job ends: see that all telemetry lasts."""
        await self._telemetry.save()

    async def cpu_seconds(self) -> float:
        """CPU time of this process so far."""
        return time.process_time()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            at = round(time.time(), 2)
            lines = [line | {"at": at} for line in self._controller.tick(time.monotonic())]
            self._telemetry.write(lines)
            self._metrics.publish(samples(self._controller.status(), lines))
