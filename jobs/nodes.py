"""The nodes of a Ray cluster: which are alive, and what each says when it is asked. Import it after
`ray_setup.connect`."""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.errors import FAILED, UserError
from actors.node_check import Question
from jobs.admission import Node

EVERY_S = 0.25
HEAD_AWAY_S = 25.0  # it may restart; after a minute Ray ends this process without a word that helps
NO_NODES_S = 10.0  # a control service that has just restarted may know of none for a moment
_CLOSE_S = 1.0
_HEAD = "node:__internal_head__"


class RayNodes:
    """Looks from a thread of its own: when the head is gone, Ray keeps whoever asks for the nodes for ever."""

    def __init__(self) -> None:
        self._nodes = _alive()
        self._any = time.monotonic()  # when an answer named a node
        # since when it asks in vain; not when the last answer came: this process may have been paused
        self._asking: float | None = None
        self._look = ray.remote(_looker())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="nodes", daemon=True)
        self._thread.start()

    def alive(self) -> list[Node]:
        """As of the last look. Raises UserError when the head, or every node, has been away for a while."""
        now = time.monotonic()
        if (since := self._asking) is not None and now - since > HEAD_AWAY_S and not self._ended.is_set():
            raise UserError(
                f"the head of the Ray cluster has not answered for {HEAD_AWAY_S:.0f} s, so it is lost; start the "
                f"cluster again and run the same command to go on",
                FAILED,
            )
        if not self._nodes and now - self._any > NO_NODES_S:
            raise UserError("no node of the Ray cluster is alive any more; run again to go on", FAILED)
        return self._nodes

    def close(self) -> None:
        """Look no more: what asks Ray after `ray.shutdown` starts another."""
        self._ended.set()
        self._thread.join(_CLOSE_S)

    def ask(self, node: Node, question: Question) -> Any:
        place = NodeAffinitySchedulingStrategy(node.id, soft=False)
        return self._look.options(num_cpus=0, scheduling_strategy=place).remote(pickle.dumps(question))

    def answer(self, asked: Any) -> tuple[str, ...] | None:
        ready, _ = ray.wait([asked], timeout=0)
        if not ready:
            return None
        try:
            said: tuple[str, ...] = ray.get(asked)
        except (NodeDiedError, LocalRayletDiedError, TaskUnschedulableError):
            return None  # it will be missing among those alive
        except RayError as error:  # its runtime_env, its memory, its Python
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return (f"cannot run the job's code: {lines[-1] if lines else type(error).__name__}",)
        return said

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S) and ray.is_initialized():
            self._asking = self._asking or time.monotonic()
            try:
                self._nodes = _alive()
            except Exception:  # as long as the head restarts, each call may end in another way
                continue
            self._asking = None
            if self._nodes:
                self._any = time.monotonic()


def _alive() -> list[Node]:
    return [
        Node(
            id=each["NodeID"],
            address=each["NodeManagerAddress"],
            hostname=each["NodeManagerHostname"],
            cpus=each["Resources"].get("CPU", 0.0),
            head=_HEAD in each["Resources"],
        )
        for each in ray.nodes()  # type: ignore[no-untyped-call]
        if each["Alive"]
    ]


def _looker() -> Any:
    """A function made here goes to the node as it is, so that one without our code can say so."""

    def look(question: bytes) -> tuple[str, ...]:
        try:
            import pickle

            from actors.node_check import complaints

            return complaints(pickle.loads(question))
        except ImportError as error:
            return (f"cannot import rayembed ({error}); install it there with its dependencies, or ship both",)
        except (AttributeError, TypeError, ValueError) as error:
            return (f"has another rayembed than the job ({error}); install the same on all nodes",)

    return look
