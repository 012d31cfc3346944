"""SGLang: inputs that wait and that are computed. Only with --enable-metrics."""

from __future__ import annotations

from actors.embedder.gauges.base import PageGauge, depth

SGLANG = PageGauge("sglang", queue=depth("sglang:num_queue_reqs", "sglang:num_running_reqs"))
