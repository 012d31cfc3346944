"""llama.cpp's server: inputs that wait for a slot and that have one. Only with --metrics."""

from __future__ import annotations

from actors.embedder.gauges.base import PageGauge, depth

LLAMACPP = PageGauge("llama.cpp", queue=depth("llamacpp:requests_deferred", "llamacpp:requests_processing"))
