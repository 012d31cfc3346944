"""Text Embeddings Inference: inputs that wait, as of its last GPU batch."""

from __future__ import annotations

from actors.embedder.gauges.base import PageGauge, depth

TEI = PageGauge("tei", queue=depth("te_queue_size"))
