"""What can go wrong with a request, and what is done about each: the one table of policies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an answer that is not vectors means. The value is the error's name in telemetry and rejects."""

    OVERLOADED = "overloaded"  # too much at once
    STARTING = "starting"  # not there yet, or not there any more
    TRANSPORT = "transport"  # cut off without an answer
    TIMEOUT = "timeout"  # no answer for far longer than answers take
    BACKEND = "backend"  # the server tried and failed, for lack of memory or otherwise
    WRONG_ANSWER = "wrong_answer"  # status 200, but not the vectors of these texts
    TOO_MANY_INPUTS = "too_many_inputs"  # texts in one request
    TOO_LARGE = "payload_too_large"  # bytes or tokens in one request
    TOO_LONG = "input_too_long"  # one of the texts
    BAD_REQUEST = "bad_request"  # refused for its content
    AUTH = "auth"
    QUOTA = "quota_spent"  # no use in waiting
    NOT_FOUND = "not_found"  # no such route or model


class Then(StrEnum):
    """What follows when retrying did not help."""

    STOP = "stop"  # the job ends; it can be run again
    SPLIT = "split"  # the texts are halved until the bad ones stand alone, which are rejected


@dataclass(frozen=True, slots=True)
class Policy:
    """`attempts` None: as long as the endpoint has not been away for longer than its patience.

    `away`: it says nothing of the texts if the server does not work at all, and counts as time away.
    `doubt`: so the server must embed a text of our own before the texts are halved. Before a single text is blamed
    it must do that whatever the fault, and is then asked once more.
    """

    attempts: int | None
    then: Then
    away: bool = False
    doubt: bool = False


POLICIES: dict[Kind, Policy] = {
    # they wait: for their turn (OVERLOADED), for a server that embeds a text of our own (STARTING)
    Kind.OVERLOADED: Policy(attempts=None, then=Then.STOP, away=True),
    Kind.STARTING: Policy(attempts=None, then=Then.STOP, away=True),
    # retried, and halved where the server works otherwise
    Kind.TRANSPORT: Policy(attempts=4, then=Then.SPLIT, away=True, doubt=True),
    Kind.TIMEOUT: Policy(attempts=1, then=Then.SPLIT, away=True, doubt=True),
    Kind.BACKEND: Policy(attempts=2, then=Then.SPLIT, away=True, doubt=True),
    Kind.WRONG_ANSWER: Policy(attempts=3, then=Then.SPLIT, away=True, doubt=True),
    # halved at once; a limit that the server names is learnt, a text that is too long is cut if that is wanted
    Kind.TOO_MANY_INPUTS: Policy(attempts=1, then=Then.SPLIT),
    Kind.TOO_LARGE: Policy(attempts=1, then=Then.SPLIT),
    Kind.TOO_LONG: Policy(attempts=1, then=Then.SPLIT),
    Kind.BAD_REQUEST: Policy(attempts=1, then=Then.SPLIT),
    # no retry can help
    Kind.AUTH: Policy(attempts=1, then=Then.STOP),
    Kind.QUOTA: Policy(attempts=1, then=Then.STOP),
    Kind.NOT_FOUND: Policy(attempts=1, then=Then.STOP),
}


class Fault(Exception):  # noqa: N818 (a fault is what the server did, not an error of ours)
    """A request that did not bring vectors. `retry_after_s` is what the server asked for, if it did.

    Where its message names them: `most_rows` is the server's limit on texts in a request, `most_tokens` that on
    tokens of a text, and `fits` the share of what was refused that would have been taken. `sound`: it is an answer
    of vectors, if wrong ones, and no gateway's page or half an answer.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        *,
        most_rows: int | None = None,
        most_tokens: int | None = None,
        fits: float | None = None,
        sound: bool = False,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.retry_after_s = retry_after_s
        self.most_rows = most_rows
        self.most_tokens = most_tokens
        self.fits = fits
        self.sound = sound

    @property
    def policy(self) -> Policy:
        return POLICIES[self.kind]
