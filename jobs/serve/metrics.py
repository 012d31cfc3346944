"""What the server counts, as a page in Prometheus' text format. Pure."""

from __future__ import annotations

from typing import NamedTuple

from jobs.serve.engine import Counters


class _Metric(NamedTuple):
    name: str
    kind: str
    about: str
    field: str


_METRICS = (
    _Metric("rayembed_inputs_waiting", "gauge", "Texts that wait for the model", "waiting"),
    _Metric("rayembed_inputs_running", "gauge", "Texts that the model computes", "running"),
    _Metric("rayembed_inputs_total", "counter", "Texts that the model has computed", "texts"),
    _Metric("rayembed_tokens_total", "counter", "Tokens of these", "tokens"),
    _Metric(
        "rayembed_padded_tokens_total", "counter", "Tokens computed for these, padding included", "padded_tokens"
    ),
    _Metric("rayembed_batches_total", "counter", "Batches that these came in", "batches"),
    _Metric("rayembed_busy_seconds_total", "counter", "Time in which the model had a batch", "busy_s"),
)


def page(counters: Counters, model: str) -> str:
    """One sample a metric, labelled with the model's name."""
    label = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return "".join(
        f"# HELP {each.name} {each.about}.\n# TYPE {each.name} {each.kind}\n"
        f'{each.name}{{model="{label}"}} {getattr(counters, each.field)!r}\n'
        for each in _METRICS
    )
