"""vLLM: inputs that wait and that are computed, by engine and model. Absent with --disable-log-stats."""

from __future__ import annotations

from actors.embedder.gauges.base import PageGauge, depth

VLLM = PageGauge("vllm", queue=depth("vllm:num_requests_waiting", "vllm:num_requests_running"))
