"""What the server counted since the last reset, and its Prometheus page."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from typing import Any

from tests.servers.gpu.batches import Job, Outcome
from tests.servers.gpu.physics import Gpu
from tests.servers.gpu.profiles import Fault, Profile

CLIENT_GONE = 499
_GPU_LABELS = (
    'gpu="{i}",UUID="GPU-00000000-0000-0000-0000-{i:012d}",pci_bus_id="00000000:{i:02X}:00.0",'
    'device="nvidia{i}",modelName="Simulated GPU",Hostname="simulated"'
)
_MEMORY_MIB = 81920
_IDLE_W = 70


class Stats:
    """Requests count when they come, all else when it ends; times are of the GPU's clock."""

    def __init__(self, gpu: Gpu, now: float, in_flight: int = 0) -> None:
        self._gpu = gpu
        self._since = now
        self._busy_from = gpu.busy_s(now)
        self._batches_from = gpu.batches, gpu.batched_tokens, gpu.batched_work
        self._cpu_from = time.process_time()
        self._latencies = array("d")
        self.requests = self.texts = self.tokens = 0
        self.in_flight = self.most_in_flight = in_flight
        self.statuses: Counter[int] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self.faults: Counter[Fault] = Counter()

    def begin(self) -> None:
        self.requests += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def end(self, now: float, job: Job, status: int | None, right: bool = True) -> None:
        """`status` None: the connection was closed. `right`: each text got its own vector, if status is 200."""
        self.in_flight -= 1
        if status is not None:
            self.statuses[status] += 1
        assert job.outcome is not None
        self.outcomes[job.outcome] += 1
        if status == 200 and right:
            self.texts += len(job.lengths)
            self.tokens += job.tokens
            self._latencies.append(now - job.sent)

    def refuse(self, status: int) -> None:
        """A request that never reached the GPU."""
        self.in_flight -= 1
        self.statuses[status] += 1

    def report(self, now: float) -> dict[str, Any]:
        """Texts and tokens are those delivered with their own vectors; `tokens_batched` and `work` those computed,
        without and with padding; `busy` is the mean over the GPUs of now; latencies are of delivered requests,
        None without any."""
        gpu = self._gpu
        batches, batched_tokens, work = self._batches_from
        busy_s, wall_s = gpu.busy_s(now) - self._busy_from, now - self._since
        latencies = sorted(self._latencies)
        count = len(latencies)
        return {
            "wall_s": wall_s,
            "busy_s": busy_s,
            "busy": busy_s / wall_s / gpu.profile.replicas,
            "requests": self.requests,
            "texts": self.texts,
            "tokens": self.tokens,
            "batches": gpu.batches - batches,
            "tokens_batched": gpu.batched_tokens - batched_tokens,
            "work": gpu.batched_work - work,
            "statuses": {str(status): times for status, times in self.statuses.items()},
            "refused": sum(self.outcomes[each] for each in (Outcome.OVERLOADED, Outcome.QUOTA)),
            "faults": {str(fault): times for fault, times in self.faults.items()},
            "ooms": self.outcomes[Outcome.OOM],
            "in_flight": self.in_flight,
            "max_in_flight": self.most_in_flight,
            "p50_s": latencies[count // 2] if count else None,
            "p99_s": latencies[count * 99 // 100] if count else None,
            "cpu_s": time.process_time() - self._cpu_from,
        }


class Gauge:
    """GPU readings that stay the same for `profile.gauge_period_s`."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._utilisation: list[float] = []
        self.energy_mj = 0  # of each GPU since the start: each reading differs from the last, as with real ones

    def read(self, gpu: Gpu, now: float) -> list[float]:
        """Utilisation 0..1 of each GPU over the last second before the reading."""
        if now - self._read_at >= gpu.profile.gauge_period_s:
            self._read_at = now
            self._utilisation = [meter.utilisation(now) for meter in gpu.meters[: gpu.profile.replicas]]
            self._utilisation += [0.0] * (gpu.profile.replicas - len(self._utilisation))
            self.energy_mj = round(1000 * _IDLE_W * now)
        return self._utilisation


def prometheus(gpu: Gpu, stats: Stats, gauge: Gauge, now: float) -> str:
    """The page at `/metrics`, with DCGM exporter's names for the GPU and TEI's for the queue."""
    profile = gpu.profile
    lines = [
        "# TYPE te_request_count counter",
        f"te_request_count {stats.requests}",
        "# TYPE sim_texts_total counter",
        f"sim_texts_total {stats.texts}",
        "# TYPE sim_tokens_total counter",
        f"sim_tokens_total {stats.tokens}",
        "# TYPE sim_batches_total counter",
        f"sim_batches_total {gpu.batches}",
    ]
    if profile.gauge:
        lines += ["# TYPE te_queue_size gauge", f"te_queue_size {gpu.waiting}"]
        values = [round(100 * share) for share in gauge.read(gpu, now)]
        lines += _per_gpu("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", values)
        energy = [gauge.energy_mj] * profile.replicas
        what = "Total energy consumption since boot (in mJ)."
        lines += _per_gpu("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", what, energy, "counter")
    if profile.gauge and profile.memory_base:
        used = round(_MEMORY_MIB * memory_used(profile, gpu.most_work))
        lines += _per_gpu("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", [used] * profile.replicas)
        free = [_MEMORY_MIB - used] * profile.replicas
        lines += _per_gpu("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", free)
    return "\n".join(lines) + "\n"


def memory_used(profile: Profile, most_work: int) -> float:
    """Share of the memory in use: allocators keep what the largest batch needed."""
    grown = min(1.0, most_work / profile.oom_tokens) if profile.oom_tokens else 0.0
    return profile.memory_base + (1 - profile.memory_base) * grown


def _per_gpu(name: str, what: str, values: list[int], kind: str = "gauge") -> list[str]:
    head = [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
    return head + [f"{name}{{{_GPU_LABELS.format(i=i)}}} {value}" for i, value in enumerate(values)]
