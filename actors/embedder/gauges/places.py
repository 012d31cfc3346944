"""Where an endpoint's pages are, and which of them may see its key. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from actors.messages import Endpoint

_PORTS = {"http": 80, "https": 443}


def own_metrics(endpoint: Endpoint) -> tuple[str, ...]:
    """Beside the server's other pages, as Prometheus expects it."""
    return (f"{endpoint.url.removesuffix('/v1')}/metrics",)


def beside(endpoint: Endpoint, page: str) -> tuple[str, ...]:
    """A page at the same level as the route that texts are sent to, as far as that is known."""
    if endpoint.route.endswith("/embeddings"):
        return (f"{endpoint.route.removesuffix('/embeddings')}/{page}",)
    root = endpoint.url.removesuffix("/v1")
    return (f"{root}/v1/{page}", f"{root}/{page}")


def at_port(endpoint: Endpoint, port: int, path: str) -> tuple[str, ...]:
    """At another port of the same host."""
    found = origin(endpoint.url)
    if found is None:
        return ()
    scheme, host, _ = found
    return (f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}",)


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # a port that is no number, half an IPv6 address
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname and port else None


def sees_key(url: str, endpoint: Endpoint) -> bool:
    """Whether the page is the endpoint's own server's: a key goes nowhere else."""
    found = origin(url)
    return found is not None and found == origin(endpoint.url)
