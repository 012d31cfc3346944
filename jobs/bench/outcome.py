"""Runs -> what is saved and said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jobs.bench.results import Comparison, ModeResult, Names, Pair, Rates, Run, Setup, Utilisations
from jobs.bench.schedule import Mode
from jobs.bench.spread import Spread, ratios, spread
from jobs.bench.vectors import Agreement, in_words


def mode_result(mode: Mode, setup: Setup, settings: dict[str, str], runs: Sequence[Run]) -> ModeResult:
    """`runs` is not empty."""
    rates = spread(run.summary.rows_per_s for run in runs)
    assert rates is not None
    return ModeResult(
        kind=mode,
        setup=setup,
        settings=settings,
        rows_per_s=rates,
        steady_rows_per_s=spread(_steady_rates(runs)),
        gpu_util=spread(run.steady.gpu_util if run.steady else None for run in runs),
        runs=tuple(runs),
    )


def comparison(
    setup: Setup, results: Mapping[Mode, tuple[str, ModeResult]], first: Sequence[Mode], vectors: Agreement
) -> Comparison | None:
    """Of as many runs in the one mode as in the other, in the order in which they ran; `results` by file name too.

    `first` is the mode that began each pair. None when a run had no row to embed: there is nothing to compare.
    """
    (sync_name, sync), (async_name, async_) = results["sync"], results["async"]
    pairs = tuple(
        Pair(sync_rows_per_s=one.summary.rows_per_s, async_rows_per_s=other.summary.rows_per_s, first=mode)
        for one, other, mode in zip(sync.runs, async_.runs, first, strict=True)
    )
    times = spread(ratios([each.sync_rows_per_s for each in pairs], [each.async_rows_per_s for each in pairs]))
    if times is None:
        return None
    return Comparison(
        setup=setup,
        results=Names(sync=sync_name, async_=async_name),
        times_faster=times,
        steady_times_faster=spread(ratios(_steady_rates(sync.runs), _steady_rates(async_.runs))),
        confidence=times.confidence,
        rows_per_s=Rates(sync=sync.rows_per_s, async_=async_.rows_per_s),
        gpu_util=Utilisations(sync=sync.gpu_util, async_=async_.gpu_util),
        vectors=vectors,
        pairs=pairs,
    )


def mode_in_words(result: ModeResult) -> str:
    """One line."""
    seen = any(run.summary.gpu_source for run in result.runs)
    unknown = "too short to say how busy the GPU was" if seen else "no GPU seen"
    gpu = f"GPU {_share(result.gpu_util)}" if result.gpu_util else unknown
    steady = f", {_rate(result.steady_rows_per_s)} in the second half" if result.steady_rows_per_s else ""
    return f"{result.kind:5}  {_rate(result.rows_per_s)} rows/s{steady}; {gpu}; {_runs(result.rows_per_s)}"


def comparison_in_words(found: Comparison) -> str:
    """How many times faster, how sure that is, and whether the vectors are the same."""
    times = found.times_faster
    lines = [f"async embeds {faster(times)} ({sure(times)})"]
    if found.steady_times_faster:
        lines.append(f"in the second half of the runs, once it is tuned: {faster(found.steady_times_faster)}")
    lines.append(f"vectors: {in_words(found.vectors)}")
    return "\n".join(lines)


def faster(times: Spread) -> str:
    return f"{times.median:.1f} times as many rows a second" + (
        f", {times.least:.1f} to {times.most:.1f}" if times.count > 1 else ""
    )


def sure(times: Spread) -> str:
    """What so many measurements can say of the true median."""
    if times.confidence is None:
        return "one pair of runs: how much of it is noise cannot be told"
    hidden = "; the noise is larger than the difference" if times.least <= 1 <= times.most else ""
    return (
        f"median of {times.count} pairs of runs; their range holds the true one with "
        f"{times.confidence:.0%} confidence{hidden}"
    )


def _steady_rates(runs: Sequence[Run]) -> list[float | None]:
    return [run.steady.rows_per_s if run.steady else None for run in runs]


def _said(spread: Spread, say: Callable[[float], str]) -> str:
    """The middle, and the extremes where they read otherwise."""
    least, most = say(spread.least), say(spread.most)
    return say(spread.median) + (f" ({least} to {most})" if least != most else "")


def _rate(rates: Spread) -> str:
    return _said(rates, lambda rate: f"{rate:,.0f}")


def _share(shares: Spread) -> str:
    return _said(shares, lambda share: f"{share:.0%}")


def _runs(rates: Spread) -> str:
    return f"median of {rates.count} runs" if rates.count > 1 else "one run"
