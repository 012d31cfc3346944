"""`rayembed serve`: texts that wait, and that its model computes."""

from __future__ import annotations

from actors.embedder.gauges.base import PageGauge, depth

RAYEMBED = PageGauge("rayembed", queue=depth("rayembed_inputs_waiting", "rayembed_inputs_running"))
