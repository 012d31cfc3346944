"""Which process of this machine serves an endpoint, as far as the system lets one see."""

from __future__ import annotations

import socket

import psutil

from actors.embedder.gauges.places import origin
from actors.embedder.gauges.reading.whose import Server


def is_here(url: str) -> bool:
    """Whether the host of `url` is this machine. May ask a name server."""
    found = origin(url)
    if found is None:
        return False
    try:
        addresses = socket.getaddrinfo(found[1], None)
    except (OSError, ValueError):  # no such host, no such name of a host
        return False
    own = {address.address for several in psutil.net_if_addrs().values() for address in several}
    return any(str(info[4][0]) in own or str(info[4][0]).startswith("127.") for info in addresses)


def listener(port: int) -> Server | None:
    """What listens at the TCP port; None when it cannot be told (another user's, another container's)."""
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                return _server(psutil.Process(each.pid))
    except (psutil.Error, OSError):
        pass
    return None


def _server(process: psutil.Process) -> Server:
    pids = frozenset({process.pid, *(child.pid for child in process.children(recursive=True))})
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return Server(pids)
    by_bus = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return Server(pids, environment.get("CUDA_VISIBLE_DEVICES"), by_bus)
