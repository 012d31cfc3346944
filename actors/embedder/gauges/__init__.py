"""How busy the GPUs behind an endpoint are, and how much waits there.

A new source is a file beside this and a line in `CARD_GAUGES` or `PAGE_GAUGES`; `reading` is how they are read.
What a server tells in its answers is in `answers`, for whoever gets them.
`gpu_source` is the `source` of one of these: nvml, gpm, triton, and of DCGM dcgm, dcgm-sm and dcgm-engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.embedder.gauges.base import CardGauge, Gauge, PageGauge
from actors.embedder.gauges.dcgm import DCGM
from actors.embedder.gauges.gpm import Gpm
from actors.embedder.gauges.infinity import INFINITY
from actors.embedder.gauges.llamacpp import LLAMACPP
from actors.embedder.gauges.nvml import Nvml
from actors.embedder.gauges.rayembed import RAYEMBED
from actors.embedder.gauges.reading.together import Gauges, Readable
from actors.embedder.gauges.sglang import SGLANG
from actors.embedder.gauges.tei import TEI
from actors.embedder.gauges.triton import TRITON
from actors.embedder.gauges.vllm import VLLM
from actors.messages import Endpoint

CARD_GAUGES: tuple[CardGauge, ...] = (Gpm, Nvml)  # of this machine's GPUs; what says most comes first
PAGE_GAUGES: tuple[PageGauge, ...] = (DCGM, TRITON, VLLM, TEI, SGLANG, LLAMACPP, INFINITY, RAYEMBED)

MEASURES: dict[str, str] = {kind.source: kind.measures for kind in CARD_GAUGES} | {
    source: what for kind in PAGE_GAUGES for source, what in kind.measures.items()
}  # of what a utilisation is the share, by its source


def open_gauge(endpoints: Sequence[Endpoint]) -> Gauge | None:
    """Begins to read in the background and returns at once; what there is will be known in a second or two."""
    if not endpoints:
        return None
    gauges = Gauges(endpoints, CARD_GAUGES, PAGE_GAUGES)
    gauges.start()
    return gauges


def look(endpoints: Sequence[Endpoint]) -> list[Readable]:
    """All that can be read of the endpoints from this machine, and what it says now. Takes some seconds at most."""
    return Gauges(endpoints, CARD_GAUGES, PAGE_GAUGES).look()


__all__ = ["CARD_GAUGES", "MEASURES", "PAGE_GAUGES", "Gauge", "Readable", "look", "open_gauge"]
