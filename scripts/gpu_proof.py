"""Proves on this machine's GPU what the job makes of it; gpu_proof.sh says how, and what to set.

Each cell is one `rayembed run` (own Ray, own processes) against our own server, measured from the server's side in
its steady state. What is measured is saved at once, and not measured again by a later call.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from gpu_proof_cell import MODES, Server, run  # noqa: E402
from gpu_proof_corpus import write_corpus  # noqa: E402
from gpu_proof_table import table  # noqa: E402

from actors.errors import UserError  # noqa: E402
from jobs.about import machine  # noqa: E402
from jobs.serve.local import start_local_server  # noqa: E402

BATCHINGS = ("dynamic", "request")
AROUND_S = 20.0  # a job's start and end, until the first has shown how long they take here
SPARE = 1.5  # rows of the corpus to those that the ceiling would take


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and for how long; nothing that would end after `until`, as time.monotonic() counts."""

    models: tuple[str, ...]
    servers: tuple[str, ...]
    modes: tuple[str, ...]
    seconds: float
    ramp_s: float
    ceiling_s: float
    texts: int
    device: str
    until: float

    def cells(self, done: dict[str, Any]) -> list[tuple[str, str, str]]:
        """Those not yet measured for so long, in an order that tells most first: (model, server, mode)."""
        wanted = [(model, server, mode) for model in self.models for server in self.servers for mode in self.modes]
        return [cell for cell in wanted if done.get("/".join(cell), {}).get("seconds", 0) < self.seconds]

    def ramp_of(self, mode: str) -> float:
        """A fixed setting has nothing to find."""
        return self.ramp_s if mode == "auto" else self.ramp_s / 4

    def cell_s(self, mode: str, around_s: float) -> float:
        """`around_s`: what starting and stopping a job takes."""
        return around_s + self.ramp_of(mode) + self.seconds


def main() -> None:
    given = _arguments()
    plan = Plan(
        models=tuple(given.models),
        servers=tuple(given.servers),
        modes=tuple(given.modes),
        seconds=given.seconds,
        ramp_s=given.ramp,
        ceiling_s=given.ceiling,
        texts=given.texts,
        device=given.device,
        until=time.monotonic() + 60 * (given.minutes or float("inf")),
    )
    given.out.mkdir(parents=True, exist_ok=True)
    results = Results(given.out)
    for model in plan.models:
        _say(f"model {model}")
        maker = [sys.executable, str(ROOT / "scripts/gpu_proof_models.py"), str(given.model_folder), model]
        subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
        prove(plan, given.model_folder / model, results)
    print((given.out / "table.md").read_text())


def prove(plan: Plan, model: Path, results: Results) -> None:
    """All that is planned for one model and not yet measured, as far as the time allows."""
    if model.name not in results.ceilings:
        _say(f"{model.name}: the model alone")
        results.ceilings[model.name] = _ceiling(plan, model)
        results.save()
    left = [cell for cell in plan.cells(results.cells) if cell[0] == model.name]
    if not left:
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        work = Path(name)
        most_s = max(plan.cell_s(mode, AROUND_S) for _, _, mode in left)
        rows = write_corpus(work / "corpus", int(SPARE * most_s * results.ceilings[model.name]["rows_per_s"]))
        _say(f"{model.name}: {rows:,} texts, {len(left)} cells")
        # all at once: loading takes them as long as one, and one that is asked nothing does nothing
        started = {
            batching: servers.enter_context(_server(model, plan.device, batching, results.ceilings[model.name]))
            for batching in dict.fromkeys(batching for _, batching, _ in left)
        }
        around_s = AROUND_S
        for _, batching, mode in left:
            cell = f"{model.name}/{batching}/{mode}"
            begin = time.monotonic()
            if begin + plan.cell_s(mode, around_s) > plan.until:
                _say(f"{cell}: no time left; the same command again goes on")
                continue
            _say(cell)
            report = results.folder if mode == "auto" else work
            report /= f"report-{model.name}-{batching}.html"
            ramp_s = plan.ramp_of(mode)
            found = run(started[batching], mode, work / "corpus", work, ramp_s, plan.seconds, report)
            around_s = time.monotonic() - begin - ramp_s - plan.seconds
            results.cells[cell] = asdict(found)
            results.save()


class Results:
    """What was measured so far, in `results.json` and as a table beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = folder / "results.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        self.ceilings: dict[str, Any] = before.get("ceilings", {})
        self.cells: dict[str, Any] = before.get("cells", {})

    def save(self) -> None:
        all_of_it = {"machine": machine(), "gpu": _gpu_name(), "ceilings": self.ceilings, "cells": self.cells}
        unfinished = self.folder / "results.json.new"
        unfinished.write_text(json.dumps(all_of_it, indent=1))
        unfinished.replace(self.folder / "results.json")
        head = (
            ", ".join(f"{name} {value}" for name, value in machine().items()) + f"; {_gpu_name() or 'no GPU'}\n\n"
        )
        (self.folder / "table.md").write_text(head + table(all_of_it))


@contextmanager
def _server(model: Path, device: str, batching: str, ceiling: dict[str, Any]) -> Iterator[Server]:
    """With the size of batch that the model alone was fastest with, so that no guess of it is the limit."""
    before = {child.pid for child in psutil.Process().children()}
    with start_local_server(
        *("--model", str(model), "--device", device, "--batching", batching),
        *("--max-batch-tokens", str(ceiling["batch_tokens"])),
    ) as url:
        (process,) = (child for child in psutil.Process().children() if child.pid not in before)
        yield Server(url, process, model.name, batching)


def _ceiling(plan: Plan, model: Path) -> dict[str, Any]:
    ran = subprocess.run(
        [
            *(sys.executable, str(ROOT / "scripts/gpu_proof_ceiling.py")),
            *(str(model), plan.device, str(plan.ceiling_s), str(plan.texts)),
        ],
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _gpu_name() -> str | None:
    tool = shutil.which("nvidia-smi")
    query = [tool or "", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() if tool else None


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("gpu_proof.sh", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", nargs="+", default=["24x1024", "small"], help="small, or LxH of random weights")
    parser.add_argument("--servers", nargs="+", choices=BATCHINGS, default=BATCHINGS)
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=["auto", "sync", "guide"])
    parser.add_argument("--device", default="cuda", help="as of serve (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of steady state (default %(default)s)")
    parser.add_argument("--ramp", type=float, default=20.0, help="seconds before, for auto (default %(default)s)")
    parser.add_argument("--ceiling", type=float, default=10.0, help="seconds for the model alone (%(default)s)")
    parser.add_argument("--texts", type=int, default=50_000, help="for the model alone (default %(default)s)")
    parser.add_argument("--minutes", type=float, help="begin no cell that would end after so many")
    parser.add_argument("--out", type=Path, default=Path("gpu_proof"), help="folder for what is found")
    parser.add_argument("--model-folder", type=Path, help="where the models are, or are made (default: OUT/models)")
    given = parser.parse_args()
    given.out = given.out.absolute()
    given.model_folder = (given.model_folder or given.out / "models").absolute()
    os.environ["HF_HUB_OFFLINE"] = "1"
    return given


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:  # which has said why
        sys.exit(failed.returncode)
    except UserError as error:
        sys.exit(f"error: {error}")
