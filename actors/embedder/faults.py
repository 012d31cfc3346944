"""What can go wrong with a request, and what is done about each: the one table of policies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an answer that is not vectors means. The value is the error's name in telemetry and rejects."""

    OVERLOADED = "overloaded"  # too much at once, or not ready yet
    TRANSPORT = "transport"  # no answer: refused, cut off, timed out
    BACKEND = "backend"  # the server tried and failed
    TOO_LARGE = "too_large"  # too many texts or bytes in one request
    BAD_REQUEST = "bad_request"  # refused for its content
    WRONG_ANSWER = "wrong_answer"  # status 200, but not the vectors of these texts
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

    Before a single text is blamed, the server must show that it embeds a text of our own, and is then asked once
    more. `doubt`: it must do so before the texts are halved at all, since the server itself may be away.
    """

    attempts: int | None
    then: Then
    doubt: bool = False


POLICIES: dict[Kind, Policy] = {
    Kind.OVERLOADED: Policy(attempts=None, then=Then.STOP),
    Kind.TRANSPORT: Policy(attempts=4, then=Then.SPLIT, doubt=True),
    Kind.BACKEND: Policy(attempts=2, then=Then.SPLIT, doubt=True),
    Kind.TOO_LARGE: Policy(attempts=1, then=Then.SPLIT),
    Kind.BAD_REQUEST: Policy(attempts=1, then=Then.SPLIT),
    Kind.WRONG_ANSWER: Policy(attempts=3, then=Then.SPLIT),
    Kind.AUTH: Policy(attempts=1, then=Then.STOP),
    Kind.QUOTA: Policy(attempts=1, then=Then.STOP),
    Kind.NOT_FOUND: Policy(attempts=1, then=Then.STOP),
}


class Fault(Exception):  # noqa: N818 (a fault is what the server did, not an error of ours)
    """A request that did not bring vectors. `retry_after_s` is what the server asked for, if it did.

    `most_rows` is the server's own limit on texts in a request, when its message names it.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        most_rows: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.retry_after_s = retry_after_s
        self.most_rows = most_rows

    @property
    def policy(self) -> Policy:
        return POLICIES[self.kind]
