"""Which process of this machine serves an endpoint, as far as the system lets one see."""

from __future__ import annotations

import socket
from collections.abc import Set

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


def listeners(ports: Set[int]) -> dict[int, Server]:
    """What listens at these TCP ports, as far as it can be told: not another user's, nor another container's.

    All in one look: each is a walk through all processes' open files.
    """
    found: dict[int, Server] = {}
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port in ports and each.pid:
                found.setdefault(each.laddr.port, _server(psutil.Process(each.pid)))
    except (psutil.Error, OSError):  # one has just ended, or nobody may see any of them
        pass
    return found


def _server(process: psutil.Process) -> Server:
    pids = frozenset({process.pid, *(child.pid for child in process.children(recursive=True))})
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return Server(pids)
    by_bus = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return Server(pids, environment.get("CUDA_VISIBLE_DEVICES"), by_bus)
