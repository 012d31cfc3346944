"""The pool of actors of one job: started, kept whole, watched, stopped. Import it after `ray_setup.connect`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

from actors.driver.actor import DriverActor
from actors.driver.telemetry import stamp
from actors.driver.tuning import Bounds
from actors.embedder.actor import EmbedderActor
from actors.errors import FAILED, UserError
from actors.messages import DriverStatus, JobSpec, QueueStatus
from actors.queue.actor import QueueActor
from actors.queue.plan import Plan
from actors.ray_ports import DRIVER, QUEUE
from jobs.admission import Admission
from jobs.nodes import RayNodes

_CPU = 0.01  # never 0: Ray then ignores where an actor should go
_HEAD = {"node:__internal_head__": 0.001}  # one failure domain with the job itself
_ASK_S = 2.0
_START_S = 120.0
_STOP_S = 8.0


@dataclass(frozen=True, slots=True)
class _Embedder:
    node: str
    handle: ActorHandle[Any]
    run: Any  # the ref of its one long call


class Pool:
    """Queue and driver at the head, embedders on the nodes: `size` of them, or as many as the driver wants.

    Raises UserError when a node cannot take part, and is not to be left out (`skip_bad_nodes`).
    """

    def __init__(
        self,
        plan: Plan,
        batch: int | None,
        spec: JobSpec,
        bounds: dict[str, Bounds],
        size: int | None,
        skip_bad_nodes: bool = False,
    ) -> None:
        self._spec = spec
        self._size = size
        beside = {"num_cpus": 0, "resources": _HEAD, "max_restarts": -1}
        self._queue = ray.remote(QueueActor).options(name=QUEUE, **beside).remote(plan, batch, spec.out, spec.sink)
        self._tell_gone: Any = self._queue.gone
        driver = ray.remote(DriverActor).options(name=DRIVER, **beside)
        self._driver = driver.remote(spec.endpoints, bounds, spec.out, stamp())
        self._embedders: dict[str, _Embedder] = {}
        self._leaving: set[str] = set()
        self._calls: dict[str, tuple[Any, float]] = {}  # to embedders that the queue does not hear
        self._wanted: dict[str, int] = {}  # embedders by node; one where the driver has said nothing yet
        self._usable_at = time.monotonic()  # when there was a node for an embedder
        self._nodes = RayNodes()
        own = ray.get_runtime_context().get_node_id()
        self._admission = Admission(self._nodes, plan, spec, own, skip_bad_nodes)
        try:
            self._admission.begin()
        except BaseException:
            self._nodes.close()
            raise
        self._reconcile()  # before the two have answered: all processes start at the same time
        self._queue_status: QueueStatus = _first_answer(self._queue.status)
        self._driver_status: DriverStatus = _first_answer(self._driver.status)

    def look(self, wait_s: float) -> tuple[QueueStatus, DriverStatus]:
        """How things stand after at most `wait_s` seconds; replaces lost embedders. Raises UserError on failure.

        While the queue or the driver restarts, the last known state is given.
        """
        running = {each.run: name for name, each in self._embedders.items()}
        ready, _ = ray.wait(list(running), timeout=wait_s) if running else ([], [])
        for ref in ready:
            self._ended(running[ref])
        self._queue_status = _ask(self._queue.status, self._queue_status)
        self._driver_status = _ask(self._driver.status, self._driver_status)
        self._wanted = self._driver_status.wanted
        if not self._queue_status.finished:
            self._reconcile()
            self._look_after(self._queue_status.silent)
        return self._queue_status, self._driver_status

    def stop(self) -> tuple[QueueStatus, DriverStatus]:
        """Let what is in flight come in, write complete parts, end every embedder. The last state of all."""
        self._nodes.close()
        for each in self._embedders.values():
            each.handle.stop.remote()
        self._wait_for_all()
        return _ask(self._queue.status, self._queue_status), self._last_words()

    def finish(self) -> tuple[QueueStatus, DriverStatus]:
        """After the last part: wait for the embedders' last reports."""
        self._nodes.close()
        self._wait_for_all()
        return self._queue_status, self._last_words()

    def _last_words(self) -> DriverStatus:
        """The driver's, when what it has recorded is where it lasts."""
        status: DriverStatus = _ask(self._driver.status, self._driver_status)
        _ask(self._driver.save, None, _STOP_S)
        return status

    def cpu_seconds(self) -> float:
        """Of queue and driver; the embedders' is in their reports."""
        return float(sum(_ask(actor.cpu_seconds, 0.0) for actor in (self._queue, self._driver)))

    def _wait_for_all(self) -> None:
        runs = [each.run for each in self._embedders.values()]
        if runs:
            ray.wait(runs, num_returns=len(runs), timeout=_STOP_S)

    def _ended(self, name: str) -> None:
        ended = self._embedders.pop(name)
        self._leaving.discard(name)
        try:
            ray.get(ended.run)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, UserError):
                raise cause from None
            raise UserError(f"embedder {name} failed: {_last_line(error)}; run again to go on", FAILED) from error
        except RayActorError:
            pass  # its node is gone: reconciling finds another place

    def _reconcile(self) -> None:
        """Compare the nodes that may have embedders with the embedders there are, and start what is missing.

        Raises UserError when the head is lost, or there has been no such node for a while.
        """
        nodes = self._admission.usable()
        if not nodes:
            if self._nodes.alive() and time.monotonic() - self._usable_at > self._spec.patience_s:
                raise UserError(
                    "no node of the Ray cluster has a CPU for an embedder; add nodes and run again to go on", FAILED
                )
            return
        self._usable_at = time.monotonic()
        for name, each in list(self._embedders.items()):
            if each.node not in nodes:
                del self._embedders[name]
                self._leaving.discard(name)
        wanted = {f"{node[:12]}-{place}": node for node, place in self._places(nodes)}
        for name, node in wanted.items():
            if name not in self._embedders:
                self._embedders[name] = self._start(name, node)
        for name in self._embedders.keys() - wanted.keys() - self._leaving:
            self._leaving.add(name)  # until its run has ended
            self._embedders[name].handle.stop.remote()

    def _look_after(self, silent: tuple[str, ...]) -> None:
        """Tell the queue which of the embedders that it does not hear are gone, so that others get their parts now.

        Ray takes a quarter of a minute to find out that a node is dead; a call to a dead process fails in seconds.
        """
        gone = [name for name in silent if name not in self._embedders]
        self._calls = {name: self._calls.get(name) or self._call(name) for name in set(silent).difference(gone)}
        for name, (answer, since) in list(self._calls.items()):
            if ray.wait([answer], timeout=0)[0]:
                del self._calls[name]
                gone += [] if _came(answer) else [name]
            elif time.monotonic() - since > _ASK_S:
                del self._calls[name]
                gone.append(name)  # or frozen; if it comes back, two have worked on its parts, which is harmless
        if gone:
            if lost := [name for name in gone if name in self._embedders]:
                tqdm.write(f"no answer from embedder {', '.join(lost)}; others do its parts", file=sys.stderr)
            self._tell_gone.remote(gone)

    def _call(self, name: str) -> tuple[Any, float]:
        return self._embedders[name].handle.here.remote(), time.monotonic()

    def _places(self, nodes: list[str]) -> list[tuple[str, int]]:
        """Node and number on it of each embedder that should be there."""
        if self._size:
            return [(nodes[i % len(nodes)], i // len(nodes)) for i in range(self._size)]
        return [(node, place) for node in nodes for place in range(self._wanted.get(node, 1))]

    def _start(self, name: str, node: str) -> _Embedder:
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        options = ray.remote(EmbedderActor).options(num_cpus=_CPU, max_restarts=-1, scheduling_strategy=place)
        handle: Any = options.remote(name, self._spec)
        return _Embedder(node, handle, handle.run.remote())


def _first_answer(method: Any) -> Any:
    try:
        return ray.get(method.remote(), timeout=_START_S)
    except (GetTimeoutError, RayActorError) as error:
        raise UserError(
            f"an actor did not start: {_last_line(error)}; are the cluster's nodes alive?", FAILED
        ) from error


def _came(answer: Any) -> bool:
    try:
        ray.get(answer)
    except RayActorError:
        return False
    return True


def _ask(method: Any, otherwise: Any, patience_s: float = _ASK_S) -> Any:
    try:
        return ray.get(method.remote(), timeout=patience_s)
    except (GetTimeoutError, RayActorError):
        return otherwise


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
