"""Joining a Ray cluster, or starting one of our own on this machine. Sets what Ray reads when it is imported."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import Any

from actors.errors import FAILED, UserError

_ROOT = Path(__file__).parents[1]
_DRAIN_S = 3.0
_STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"  # Ray's own name, and what it takes where that is not set
_STOP_WAIT_S, _ENDING_S = 3.0, 2.0
_OBJECT_STORE_BYTES = 100 << 20  # nothing of ours goes through it


def connect(address: str | None) -> bool:
    """Connect to `address`, else $RAY_ADDRESS, else start a local Ray. True when the Ray is our own.

    Raises UserError when the cluster cannot be reached, KeyboardInterrupt on SIGTERM.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local = address == "local"
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # else `uv run` builds a venv on every node
    if local:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        _guard_own_cluster()
    elif "RAY_AUTH_MODE" not in os.environ and _has_token():
        os.environ["RAY_AUTH_MODE"] = "token"  # `ray start` switches it on whenever it finds a token
    import ray

    options: dict[str, Any] = {"runtime_env": _code_to_ship()}
    if local:
        options = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError and, from a slow raylet, just this
        where = "a local Ray cannot be started" if local else f"the Ray cluster at {address} cannot be reached"
        reason = str(error).strip().split("\n", 1)[0]
        raise UserError(f"{where}: {reason}; see --address and RAY_ADDRESS", FAILED) from error
    except SystemExit as ended:  # by Ray's own SIGTERM handler
        raise KeyboardInterrupt from ended
    return local


def drain_s() -> float:
    """Seconds for what is in flight when the job is told to end: less where `ray job stop` kills soon after."""
    if not _submitted():
        return _DRAIN_S
    grace_s = float(os.environ.get(_STOP_WAIT, _STOP_WAIT_S))
    return min(_DRAIN_S, max(0.0, grace_s - _ENDING_S))


def _submitted() -> bool:
    """Whether `ray job submit` has started this process."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def _code_to_ship() -> dict[str, Any]:
    """What workers of a running cluster need to import us: nothing when we are installed, or were shipped ourselves
    by `ray job submit`; else this checkout's two packages."""
    if _ROOT.name == "site-packages" or _submitted():
        return {}
    return {"py_modules": [str(_ROOT / "jobs"), str(_ROOT / "actors")]}


def _guard_own_cluster() -> None:
    """Other users of this machine may not reach our Ray. The token lives in this process and its children only:
    one in Ray's own place would make the next `ray start` here demand it."""
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _has_token() -> bool:
    named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    return bool(named) or Path("~/.ray/auth_token").expanduser().exists()
