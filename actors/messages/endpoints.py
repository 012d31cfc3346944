"""An embedding server, as far as it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes; None: not known, or no limit.

    `tokens_per_gpu_batch`: it merges requests up to this. `texts_merged`: it makes its batches out of so many texts
    of all requests, sorted by length.
    """

    tokens_per_text: int | None = None
    texts_per_request: int | None = None
    tokens_per_request: int | None = None
    bytes_per_request: int | None = None
    texts_in_flight: int | None = None
    requests_in_flight: int | None = None
    tokens_per_gpu_batch: int | None = None
    texts_merged: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a server beyond a vector for each text; each dialect has its own words for it.

    `dimensions`: vectors shortened to so many (Matryoshka). `prompt_name`: one of the server's own prompts. `raw`:
    vectors of the length that the model gives them. `truncate`: the server cuts a text that is too long, if it can;
    without, it refuses such a text, if it can.
    """

    dimensions: int | None = None
    prompt_name: str | None = None
    raw: bool = False
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An embedding server. The key is named, never held: each process reads `api_key_env` itself.

    `metrics_url` is a page with its GPU utilisation or its queue, if the user names one. No more than
    `requests_per_minute` and `tokens_per_minute` are asked of it, over the whole pool; None: any number. `route` is
    the URL that texts are sent to, `encoding` how vectors come back, in the dialect's words; empty: what such a
    server has by default. `counted` is the encoding of some of the requests, where answers in the other do not tell
    the tokens. `unit`: vectors are made of length 1 when they have come. `cuts`: it embeds the beginning of a text
    that is too long. `server` is what it calls itself; `switches` are its own options that raise a limit, by the
    limit's name.
    """

    url: str
    model: str
    dialect: str
    api_key_env: str | None
    metrics_url: str | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    route: str = ""
    encoding: str = ""
    counted: str = ""
    unit: bool = False
    cuts: bool = False
    wanted: Wanted = Wanted()
    limits: Limits = Limits()
    server: str = ""
    switches: Mapping[str, str] = field(default_factory=dict)
