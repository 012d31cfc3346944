"""What the embedders were told of an endpoint's GPUs and of its queue, as one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from operator import attrgetter, itemgetter

from actors.messages import GpuSample, QueueSample

_age_s = attrgetter("age_s")


def gpu_of(told: Iterable[tuple[str, GpuSample]]) -> GpuSample | None:
    """The mean over the nodes that see GPUs of an endpoint, on each what the embedder saw that looked last."""
    by_node: dict[str, GpuSample] = {}
    for node, sample in told:
        by_node[node] = min(sample, by_node.get(node, sample), key=_age_s)
    return mean_gpu(by_node.values())


def mean_gpu(samples: Iterable[GpuSample]) -> GpuSample | None:
    """As old as the oldest of them."""
    seen = list(samples)
    if not seen:
        return None
    share = sum(sample.utilisation for sample in seen) / len(seen)
    source = "+".join(sorted({sample.source for sample in seen}))
    return GpuSample(share, source, max(map(_age_s, seen)))


def queue_of(told: Iterable[tuple[float, QueueSample]]) -> QueueSample | None:
    """What the embedder that looked last was told: the server is the same for all of them.

    With each goes when its embedder was heard from. Where nobody can look, it is what they know of their own texts,
    together.
    """
    samples = [(heard - queue.age_s, queue) for heard, queue in told]
    seen = [(at, queue) for at, queue in samples if not queue.own]
    if seen or not samples:
        return max(seen, key=itemgetter(0))[1] if seen else None
    own = [queue for _, queue in samples]
    running = sum(queue.running or 0 for queue in own)
    return replace(own[0], waiting=sum(queue.waiting for queue in own), running=running)
