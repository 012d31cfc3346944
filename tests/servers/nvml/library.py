"""A stub of NVML's library, compiled from `stub.c`: with it the real `pynvml` sees GPUs where there are none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("stub.c")


@pytest.fixture(scope="session")
def nvml_stub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which a new process loads the stub."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", _SOURCE], check=True)
    return {"LD_LIBRARY_PATH": str(folder)}
