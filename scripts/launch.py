"""What the scripts with the guide's names share: they are `rayembed` commands, started from a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NEEDED = ("click", "ray", "msgspec", "pyarrow")


def launch(arguments: Sequence[str]) -> None:
    """Run `rayembed ARGUMENTS…` and exit as it does: with this Python, or with that of `.venv` if only it has
    what is needed."""
    if all(find_spec(name) for name in _NEEDED):
        sys.path.insert(0, str(ROOT))
        from jobs.__main__ import main

        main(arguments)
    elif (python := _installed()) and Path(sys.prefix) != python.parents[1]:
        command = [str(python), "-m", "jobs", *arguments]
        sys.exit(subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode)
    else:
        sys.exit("rayembed is not installed for this Python: run scripts/quick_async_test.sh, which installs it")


def _installed() -> Path | None:
    """The Python that `quickstart.sh` or `quick_async_test` has installed everything for."""
    folder = Path(os.environ.get("RAYEMBED_VENV", ROOT / ".venv"))
    candidates = (folder / "bin" / "python", folder / "Scripts" / "python.exe")
    return next((path for path in candidates if path.exists()), None)
