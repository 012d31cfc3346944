"""The simulated GPU server as a child process."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from tests.servers.gpu.profiles import PROFILES, Profile, changed

_ROOT = Path(__file__).parents[3]


class GpuServer:
    """A running server on 127.0.0.1 with the profile of this name, `fields` of it changed.

    `port` 0: one that is free. Ends with `stop` or by leaving the `with` block. Raises KeyError or
    msgspec.ValidationError on a wrong name or value.
    """

    def __init__(self, profile: str = "one", seed: int = 0, port: int = 0, **fields: Any) -> None:
        self.profile: Profile = changed(PROFILES[profile], fields)
        command = [sys.executable, "-m", "tests.servers.gpu.server", f"--profile={profile}"]
        command += [f"--seed={seed}", f"--port={port}"]
        command += [f"--{name.replace('_', '-')}={_flag(value)}" for name, value in fields.items()]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            ready = stdout.readline()
        if not ready:
            raise RuntimeError(f"GPU server did not start: {command}, exit code {self._process.wait()}")
        self.port = int(ready.removeprefix("READY "))
        self.url = f"http://127.0.0.1:{self.port}"
        self._client = httpx.Client(base_url=self.url, trust_env=False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def change(self, **fields: Any) -> None:
        """Changes these fields of the profile; they hold for what begins from now on."""
        self.profile = changed(self.profile, fields)
        self._client.post("/_profile", content=msgspec.json.encode(fields)).raise_for_status()

    def become(self, profile: str, **fields: Any) -> None:
        """A new server at the same URL, as after a restart, with another profile: requests still open are cut
        off, and stats, quotas and gauges begin anew. Connections stay."""
        self.profile = changed(PROFILES[profile], fields)
        body = msgspec.json.encode(dataclasses.asdict(self.profile))
        self._client.post("/_become", content=body).raise_for_status()

    def capacity(self, factor: float) -> None:
        """The GPUs run at this multiple of the speed that `PROFILES` gives them."""
        self.profile = changed(self.profile, {"speed": factor})
        self._client.post("/_capacity", json={"factor": factor}).raise_for_status()

    def stats(self) -> dict[str, Any]:
        """`Stats.report` since the last reset."""
        answer = self._client.get("/_stats").raise_for_status()
        return msgspec.json.decode(answer.content, type=dict[str, Any])

    def metrics(self) -> str:
        return self._client.get("/metrics").raise_for_status().text

    def reset(self) -> None:
        """Clears the stats; the profile and what is under way stay."""
        self._client.post("/_reset").raise_for_status()

    def stop(self) -> None:
        """Ends the process; open requests are cut off. Harmless twice."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._client.close()

    def kill(self) -> None:
        """SIGKILL: connections are cut, and the stats are gone."""
        self._process.kill()
        self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _flag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
