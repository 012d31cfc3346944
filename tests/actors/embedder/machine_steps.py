"""Reads this machine's GPUs again and again, as an embedder's thread does, in an environment that changes.

    python -m tests.actors.embedder.machine_steps URL STEP...

A step is a JSON object of variables to set (null: to unset) before the next look. Prints for each how long to wait
and what was read, as JSON lines.
"""

from __future__ import annotations

import json
import os
import sys

from actors.embedder.gauges import CARD_GAUGES
from actors.embedder.gauges.reading.machine import Machine
from actors.messages import Endpoint


def main(url: str, *steps: str) -> None:
    machine = Machine([Endpoint(url, "m", "openai", None)], CARD_GAUGES)
    for step in steps:
        for name, value in json.loads(step).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        after_s = machine.look()
        sample = machine.gpu(url)
        seen = [sample.utilisation, sample.source, sample.age_s] if sample else None
        print(json.dumps([after_s, seen]))
    machine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
