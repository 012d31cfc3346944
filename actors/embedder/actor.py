"""The embedder as a Ray actor: a shell around `Embedder` that gives it Ray's queue and driver."""

from __future__ import annotations

import ray

from actors.embedder.embedder import Embedder
from actors.messages import JobSpec
from actors.ray_ports import RayDriver, RayQueue


class EmbedderActor:
    """One event loop, one long `run`. Ray itself runs it again in a new process after a crash."""

    def __init__(self, name: str, spec: JobSpec) -> None:
        node = ray.get_runtime_context().get_node_id()
        self._embedder = Embedder(name, node, spec, RayQueue(), RayDriver())

    @ray.method(max_task_retries=-1)
    async def run(self) -> None:
        await self._embedder.run()

    async def here(self) -> None:
        """Says so by answering."""

    async def stop(self) -> None:
        await self._embedder.stop()
