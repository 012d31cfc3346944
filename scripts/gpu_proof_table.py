"""The proof's results as a table in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = (
    *("model", "server", "job", "rows/s", "tokens/s", "of ceiling", "to sync", "GPU mean", "GPU p10", "SM mean"),
    *("SM p10", "model busy", "not padding", "client CPU", "server CPU", "in flight x texts", "bound by"),
)
_NUMBERS_FROM = 3


def table(results: Mapping[str, Any]) -> str:
    """`results` is what `gpu_proof.py` saves: `ceilings` by model, `cells` by model/server/job."""
    rows = []
    for model, ceiling in results["ceilings"].items():
        rows.append(_ceiling_row(model, ceiling))
        cells = [cell for cell in results["cells"].values() if cell["model"] == model]
        rows += [_row(cell, ceiling, _sync(cell, cells)) for cell in cells]
    lines = [_COLUMNS, ["---"] * _NUMBERS_FROM + ["---:"] * (len(_COLUMNS) - _NUMBERS_FROM), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _ceiling_row(model: str, ceiling: Mapping[str, Any]) -> list[str]:
    return [
        *(model, "none: a tight loop", f"{ceiling['batch_tokens']} tokens x {ceiling['lanes']}"),
        *(f"{ceiling['rows_per_s']:,.0f}", f"{ceiling['tokens_per_s']:,.0f}", "100 %", ""),
        *_gpu(ceiling["gpu"]),
        *("", _share(ceiling["fill"]), "", f"{ceiling['cpu']:.2f}", "", ""),
    ]


def _row(cell: Mapping[str, Any], ceiling: Mapping[str, Any], sync: float | None) -> list[str]:
    in_flight = f"{cell['in_flight']} x {cell['batch_rows']}" if cell["in_flight"] else ""
    return [
        *(cell["model"], cell["batching"], cell["mode"]),
        *(f"{cell['rows_per_s']:,.0f}", f"{cell['tokens_per_s']:,.0f}"),
        _share(cell["tokens_per_s"] / ceiling["tokens_per_s"]),
        f"{cell['tokens_per_s'] / sync:.1f} x" if sync else "",
        *_gpu(cell["gpu"]),
        *(_share(cell["busy"]), _share(cell["fill"]), f"{cell['client_cpu']:.2f}", f"{cell['server_cpu']:.2f}"),
        *(in_flight, cell["bound_by"] or ""),
    ]


def _sync(cell: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> float | None:
    """Tokens/s of the simple loop at the same server."""
    of_server = (each for each in cells if each["mode"] == "sync" and each["batching"] == cell["batching"])
    return next((each["tokens_per_s"] for each in of_server), None)


def _gpu(gpu: Mapping[str, Sequence[float]]) -> list[str]:
    return [_share(share) for source in ("nvml", "gpm") for share in gpu.get(source, (None, None))]


def _share(value: float | None) -> str:
    return f"{100 * value:.1f} %" if value is not None else ""
