"""What held the job back, and what to change to go faster."""

from __future__ import annotations

from dataclasses import dataclass

from actors.messages import DriverStatus

_TELLING_S = 5.0
_BUSY_CORE = 0.85
_NOTICEABLE = 0.2  # of the time
_ALWAYS_BUSY = 0.9  # of the time in which a kernel runs
_FULL = {"gpm": 0.8, "dcgm-sm": 0.8}  # of the multiprocessors: they are never all busy, between two kernels few are


@dataclass(frozen=True, slots=True)
class Verdict:
    """`bound_by` is one of server, client, input, output, rate-limit."""

    bound_by: str
    advice: str


def judge(driver: DriverStatus) -> Verdict:
    """From what the pool saw over the whole run."""
    if driver.seconds < _TELLING_S:
        return Verdict("server", "it was over too soon to tell what held it back")
    overloaded = sum(endpoint.errors.get("overloaded", 0) for endpoint in driver.endpoints)
    requests = max(1, sum(endpoint.requests for endpoint in driver.endpoints))
    if driver.write_wait_share > _NOTICEABLE:
        return Verdict(
            "output", f"reading waited for writing {driver.write_wait_share:.0%} of the time: use faster storage"
        )
    if driver.starved_share > _NOTICEABLE:
        return Verdict(
            "input", f"requests waited for input {driver.starved_share:.0%} of the time: use faster storage"
        )
    if driver.loop_share > _BUSY_CORE:
        return Verdict("client", f"the embedders used {driver.loop_share:.0%} of a core each: raise --actors")
    paced_s = max(endpoint.paced_s for endpoint in driver.endpoints)
    if paced_s > _NOTICEABLE * driver.seconds:
        return Verdict(
            "rate-limit",
            f"requests waited for the rate limit {paced_s / driver.seconds:.0%} of the time: have it raised",
        )
    if overloaded > _NOTICEABLE * requests:
        return Verdict(
            "rate-limit",
            f"{overloaded} of {requests} requests were refused: raise the server's or the key's limits",
        )
    if driver.gpu_mean is None:
        return Verdict(
            "server",
            f"the server is the limit, the embedders used {driver.loop_share:.0%} of a core each; "
            "no GPU utilisation could be read to say more",
        )
    if driver.gpu_mean >= _FULL.get(driver.gpu_source or "", _ALWAYS_BUSY):
        return Verdict(
            "server", f"GPU {driver.gpu_mean:.0%} busy: the server is the limit; add a GPU and an --endpoint"
        )
    return Verdict(
        "server", f"the server is the limit at GPU {driver.gpu_mean:.0%}: its own CPU or settings hold it back"
    )
