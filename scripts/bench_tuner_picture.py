"""The picture of `bench_tuner.py`: for each profile, the GPU's busy share, requests in flight and their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("Agg")
COLUMNS = ("GPU busy", "requests in flight", "tokens in a request")
COLOURS = ("#0b7a75", "#7b2d26", "#2b4c7e")


def draw(cells: list[dict[str, Any]], file: Path) -> None:
    """One row a cell (`Cell` as a dict), one column a quantity, against seconds since the first answer."""
    figure, axes = plt.subplots(len(cells), 3, figsize=(12, 1.5 * len(cells) + 0.6), sharex=True, squeeze=False)
    for row, cell in zip(axes, cells, strict=True):
        seconds = [sample[0] for sample in cell["line"]]
        for column, (axis, colour) in enumerate(zip(row, COLOURS, strict=True), 1):
            axis.step(seconds, [sample[column] for sample in cell["line"]], where="post", color=colour, linewidth=1)
            _plain(axis, cell["reached_s"])
        row[0].set_ylim(0, 1.05)
        for axis in row[1:]:
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        row[0].set_ylabel(f"{cell['profile']}\n{cell['share']:.0%} of best", rotation=0, ha="right", va="center")
    for axis, name in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(name, fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("seconds since the first answer (dotted: 95 % of the best setting)", fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def _plain(axis: Axes, reached_s: float | None) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    if reached_s is not None:
        axis.axvline(reached_s, color="black", linestyle=":", linewidth=0.8)
