"""The guide's main job, which is `rayembed run`, but synchronous unless `--async` is said.

    python scripts/run_phase1.py [--async [--async-preset conservative|recommended|aggressive]] [--batch N] …

Input, output and endpoints come from `config/phase1_config.yaml` or as the options of `rayembed run`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from launch import launch

_PRESET = "--async-preset"


def translated(arguments: Sequence[str]) -> list[str]:
    """The arguments of `rayembed`. Exits with code 2 where a preset is given to the synchronous way."""
    if "--async" in arguments or "--help" in arguments or "-h" in arguments:
        return ["run", *arguments]
    if any(each == _PRESET or each.startswith(f"{_PRESET}=") for each in arguments):
        print(
            f"run_phase1.py: {_PRESET} is for many requests at once; add --async, or leave it out", file=sys.stderr
        )
        sys.exit(2)
    return ["run", "--sync", *arguments]


if __name__ == "__main__":
    launch(translated(sys.argv[1:]))
