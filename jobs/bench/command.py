"""`rayembed bench`: the same rows in one mode or both, measured, saved, and said in a few lines."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from actors.corpus.source import open_source
from actors.driver.telemetry import stamp
from actors.errors import FAILED, SOME_REJECTED, UserError
from jobs.about import chosen, machine
from jobs.bench.measure import measure, said, settings_of
from jobs.bench.outcome import comparison, comparison_in_words, mode_in_words, mode_result
from jobs.bench.pilot import look
from jobs.bench.results import Comparison, ModeResult, Result, Run, Setup, encode, save
from jobs.bench.rows import MOST_ROWS, SampleRows
from jobs.bench.schedule import Mode, choose_rows, rounds
from jobs.bench.vectors import Agreement, compare
from jobs.probe import facts
from jobs.run import Job, prepare
from jobs.serve.local import start_local_server
from jobs.settings import SYNC_REQUEST_ROWS, Settings

MODES: dict[str, tuple[Mode, ...]] = {"async": ("async",), "sync": ("sync",), "both": ("sync", "async")}
_SAMPLE = "documentation of the Python standard library"
_PILOT_ROWS = 1000
_ABANDONED_AFTER_S = 86400.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `bench` came to, by the path that each result was saved at."""

    saved: dict[Path, Result]
    exit_code: int

    def in_words(self) -> str:
        lines = [mode_in_words(each) for each in self.saved.values() if isinstance(each, ModeResult)]
        lines += [comparison_in_words(each) for each in self.saved.values() if isinstance(each, Comparison)]
        return "\n".join([*lines, *(f"saved: {path}" for path in self.saved)])

    def to_json(self) -> str:
        """One object: every result by its path, without the time lines."""
        plain = {str(path): msgspec.json.decode(encode(result)) for path, result in self.saved.items()}
        for result in plain.values():
            for run in result.get("runs", ()):
                del run["timeline"]
        return msgspec.json.encode({"exit_code": self.exit_code, "results": plain}).decode()


def bench(
    settings: Settings, modes: Sequence[Mode], seconds: float, folder: Path, repeat: int | None = None
) -> Outcome:
    """Measure and save, in about so many seconds, each mode `repeat` times or as often as that allows.

    Without an endpoint in `settings` it is the local server that is tested, without an input a sample corpus.
    Raises UserError as `run` does, and where nothing can be saved.
    """
    began = time.monotonic()
    with _work_folder(folder) as work, _servers(settings) as asked:
        bench = _Bench(asked, modes, work)
        bench.choose_rows(seconds - (time.monotonic() - began), repeat)
        for order in rounds(modes, seconds, lambda: time.monotonic() - began, repeat):
            bench.play(order)
        return bench.save(folder)


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """A hidden one in `folder`: every node of a cluster must see it, and one disk must hold it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".work-*"):  # by a test that was killed
            if time.time() - left.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=".work-", dir=folder.absolute()))
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}; choose another --results") from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _servers(settings: Settings) -> Iterator[Settings]:
    """Those that are configured, else a local one, of which nothing has to be told."""
    if settings.endpoints:
        yield settings
        return
    print("no endpoint is configured: testing a local server on this machine's CPU", file=sys.stderr)
    with start_local_server() as url:
        local = {"endpoints": [url], "input": settings.input, "async_inference": settings.async_inference}
        yield Settings.model_validate({**local, "output": settings.output, "ray": settings.ray})


class _Bench:
    """The runs so far. A work folder holds the sample and the outputs of the pair that is under way."""

    def __init__(self, settings: Settings, modes: Sequence[Mode], work: Path) -> None:
        self._settings = settings
        self._modes = modes
        self._work = work
        self._started = datetime.now(UTC)
        self._sample = None if settings.input.paths else SampleRows(work)
        self._corpus = self._sample.write(_PILOT_ROWS) if self._sample else None
        self._job = prepare(settings_of(settings, "async", self._corpus, settings.input.limit, work / "none"))
        self._rows = 0
        self._runs: dict[Mode, list[Run]] = {mode: [] for mode in modes}
        self._first: list[Mode] = []
        self._vectors = Agreement()

    def choose_rows(self, seconds: float, repeat: int | None) -> None:
        """How many rows each run embeds: what there is, or what fits into so many seconds."""
        endpoints = self._job.found.endpoints
        one_at_a_time = self._settings.async_inference.model_copy(update={"enabled": False})
        request_rows = one_at_a_time.request_rows or SYNC_REQUEST_ROWS
        paces = [look(each, _texts(self._job), request_rows) for each in endpoints]
        pace = replace(
            paces[0], alone=sum(each.alone for each in paces), together=sum(each.together for each in paces)
        )
        self._rows = choose_rows(pace, self._modes, seconds, self._job.found.dim, repeat)
        if self._sample:
            self._rows = min(self._rows, self._settings.input.limit or MOST_ROWS, MOST_ROWS)
            self._corpus = self._sample.write(self._rows)
        else:
            self._rows = min(self._rows, self._job.plan.rows)
        print(
            f"{self._rows:,} rows a run; the server gave {pace.alone:,.0f} rows/s one request at a time",
            file=sys.stderr,
        )

    def play(self, order: Sequence[Mode]) -> None:
        """One run in each of these modes, and a look at whether they gave the same."""
        outs: dict[Mode, Path] = {}
        for mode in order:
            out = outs[mode] = self._work / f"{mode}-{len(self._runs[mode])}"
            print(f"{mode}, run {len(self._runs[mode]) + 1}", file=sys.stderr, flush=True)
            run = measure(settings_of(self._settings, mode, self._corpus, self._rows, out), out)
            self._runs[mode].append(run)
            print(f"  {run.summary.rows_per_s:,.0f} rows/s in {run.summary.seconds:.1f} s", file=sys.stderr)
        if len(outs) > 1:
            self._first.append(order[0])
            self._vectors += compare(outs["sync"], outs["async"])
        for out in outs.values():
            shutil.rmtree(out, ignore_errors=True)

    def save(self, folder: Path) -> Outcome:
        """One file a mode, and one that compares them if there are two."""
        now, setup = stamp(), self._setup()
        named = {
            mode: (
                f"{mode}_{now}",
                mode_result(mode, setup, self._chosen(mode), self._runs[mode]),
            )
            for mode in self._modes
        }
        results: dict[str, Result] = dict(named.values())
        if len(named) > 1:
            found = comparison(
                setup,
                {mode: (f"{name}.json", each) for mode, (name, each) in named.items()},
                self._first,
                self._vectors,
            )
            results |= {f"comparison_{now}": found} if found else {}
        try:
            saved = {save(folder, name, result): result for name, result in results.items()}
        except OSError as error:
            raise UserError(
                f"cannot write to {folder}: {error.strerror or error}; make room there", FAILED
            ) from None
        return Outcome(saved, self._exit_code())

    def _exit_code(self) -> int:
        if not self._vectors.same:
            return FAILED
        rejected = any(run.summary.rows_rejected for runs in self._runs.values() for run in runs)
        return SOME_REJECTED if rejected else 0

    def _setup(self) -> Setup:
        servers = {
            each.endpoint.url: {fact.what: fact.value for fact in facts(each)} for each in self._job.found.servers
        }
        return Setup(
            started=said(self._started),
            finished=said(datetime.now(UTC)),
            machine=machine(),
            servers=servers,
            corpus=_SAMPLE if self._sample else ", ".join(self._settings.input.paths),
            rows=self._rows,
            model=self._job.found.endpoints[0].model,
            dim=self._job.found.dim,
        )

    def _chosen(self, mode: Mode) -> dict[str, str]:
        return chosen(settings_of(self._settings, mode, self._corpus, self._rows, self._work))


def _texts(job: Job) -> list[str]:
    """Some of the input's. Raises UserError where there are none."""
    for index in range(job.plan.parts):
        lease = job.plan.lease(index, 1)
        reader = open_source(lease.file, job.columns)
        try:
            texts = [text for text in reader.read(lease.parts[0]).texts if text]
        finally:
            reader.close()
        if texts:
            return texts[:_PILOT_ROWS]
    raise UserError("the input has no text to embed; name another column with --text-column")
