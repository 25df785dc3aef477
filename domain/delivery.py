"""How a delivery goes on: when it is tried again, what an answer means, and how much is sent at once.

The schedule is the example of Standard Webhooks, 75 hours in all.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

SCHEDULE_S = (0.0, 5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""The wait before each try; the first is made at once."""

JITTER = 0.2  # each way
DISABLE_AFTER_S = 120 * 3_600.0  # RELIABILITY §3.7: an endpoint with nothing but failures for so long is disabled
FAILING_AFTER = 3  # failures in a row that send an endpoint to the slow lane
DUE_PER_HINT = 16
GONE = 410

_SECONDS = re.compile(r"[0-9]{1,10}")


class Standing(StrEnum):
    """What is known of an endpoint; each has a queue and threads of its own, so that dead receivers do not hold up live ones."""

    NEW = "new"
    GOOD = "good"
    FAILING = "failing"


class TryError(StrEnum):
    """Why a try failed, for owners of endpoints to read."""

    URL_REFUSED = "url_refused"
    NAME_NOT_RESOLVED = "name_not_resolved"
    ADDRESS_FORBIDDEN = "address_forbidden"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    BAD_ANSWER = "bad_answer"
    REDIRECT_REFUSED = "redirect_refused"
    GONE = "gone"
    HTTP_STATUS = "http_status"
    EVENT_GONE = "event_gone"
    SECRET_MISSING = "secret_missing"  # noqa: S105 - a code, not one


@dataclass(frozen=True, slots=True)
class Limits:
    """How many sessions may send at once, and how many deliveries one of them claims.

    Attributes:
        new: sessions of an endpoint that has not yet had a success.
        good: sessions of an endpoint that works.
        failing: sessions of one that fails.
        tenant: sessions of all of a tenant's endpoints together.
        many: deliveries that a session claims of a good endpoint; of any other one at a time.
    """

    new: int = 1
    good: int = 4
    failing: int = 1
    tenant: int = 20
    many: int = DUE_PER_HINT

    def sessions(self, standing: str) -> int:
        """Those of one endpoint of a standing."""
        return {Standing.NEW: self.new, Standing.GOOD: self.good, Standing.FAILING: self.failing}[Standing(standing)]


# Of a tenant's 20: its dead endpoints leave eight to those that work.
LIMITS = {Standing.NEW: Limits(tenant=12), Standing.GOOD: Limits(), Standing.FAILING: Limits(tenant=8)}


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver took it."""


@dataclass(frozen=True, slots=True)
class Again:
    """It failed, and is tried again after so many seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """It failed for good."""


Verdict = Delivered | Again | Failed


def error_of(status_code: int) -> TryError | None:
    """What is wrong with an answer; None where it says that the event was taken: 2xx alone does."""
    if 200 <= status_code < 300:
        return None
    if 300 <= status_code < 400:
        return TryError.REDIRECT_REFUSED
    return TryError.GONE if status_code == GONE else TryError.HTTP_STATUS


def judge(error: TryError | None, *, step: int, dice: float, retry_after_s: float | None = None) -> Verdict:
    """What becomes of a delivery after a try.

    Args:
        error: why the try failed, if it did.
        step: where in the schedule the try was made; 0 for the first.
        dice: uniform in [0, 1).
        retry_after_s: what the receiver asked for, if it did.
    """
    if error is None:
        return Delivered()
    if error in {TryError.GONE, TryError.EVENT_GONE} or step + 1 >= len(SCHEDULE_S):
        return Failed()
    return Again(delay_s(step + 1, dice, retry_after_s=retry_after_s))


def delay_s(step: int, dice: float, *, retry_after_s: float | None = None) -> float:
    """The wait before a try: the schedule's, give or take a fifth; or what the receiver asked for, within once and twice the schedule's.

    Args:
        step: of the try that is to come.
        dice: uniform in [0, 1).
        retry_after_s: what the receiver asked for.
    """
    base_s = SCHEDULE_S[step]
    if retry_after_s is None:
        return base_s * (1 - JITTER + 2 * JITTER * dice)
    return min(max(retry_after_s, base_s), 2 * base_s)


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """The seconds that a ``Retry-After`` header asks for: a number or an HTTP date. None where it is neither; a date that has passed is 0."""
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
