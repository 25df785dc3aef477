"""The breaker of a model: a pure state machine over what its runs say, shared by all workers through the database."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_DOUBLINGS = 16


class State(StrEnum):
    """Whether jobs are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"  # one job is: the probe


class BreakerSpec(BaseModel):
    """When a model's breaker opens, and for how long.

    Attributes:
        failures: so many failed runs in a row open it, whatever time they take.
        window_s: counts of runs are begun anew after so long.
        window_runs: so many runs of one window must have ended before their share of failures is looked at.
        share: a larger share of failures opens it.
        open_s: how long it stays open, at first; doubled each time that a probe fails.
        max_open_s: the longest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    failures: Annotated[int, Field(ge=1)] = 5
    window_s: Annotated[float, Field(gt=0)] = 60.0
    window_runs: Annotated[int, Field(ge=1)] = 20
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    open_s: Annotated[float, Field(gt=0)] = 30.0
    max_open_s: Annotated[float, Field(gt=0)] = 300.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of a model that failed lately; of one that works nothing is.

    Attributes:
        failures_in_row: since its last success.
        window_started_at: from when the two counts are.
        openings: in a row, without a success between them.
        code: of the failure that opened it.
        probe_at: open: when the next probe may go; half open: until when the probe that is under way has time.
    """

    window_started_at: datetime
    state: State = State.CLOSED
    failures_in_row: int = 0
    window_failures: int = 0
    window_successes: int = 0
    openings: int = 0
    code: str | None = None
    opened_at: datetime | None = None
    probe_at: datetime | None = None

    def shut_until(self, now: datetime) -> datetime | None:
        """Until when no job is let through, or None where one may go: at once, or as the next probe."""
        return None if self.probe_at is None or self.probe_at <= now else self.probe_at


def after_failures(breaker: Breaker | None, spec: BreakerSpec, *, count: int, code: str, now: datetime, answers: int = 0) -> Breaker:
    """The breaker after ``count`` runs, 1 or more, that failed for the provider's reason.

    Runs that were under way as it opened come in later and change nothing more; a failed probe opens it again for longer. Failures that came together
    with ``answers`` are no row: the model answers, and it is their share that counts.
    """
    stale = breaker is not None and breaker.state is State.CLOSED and now - breaker.window_started_at > timedelta(seconds=spec.window_s)
    if breaker is None or stale or (answers and breaker.state is not State.CLOSED):
        breaker = Breaker(window_started_at=now, failures_in_row=breaker.failures_in_row if breaker else 0)
    if breaker.state is State.OPEN:
        return breaker
    if breaker.state is State.HALF_OPEN:
        return _opened(breaker, spec, code=code, now=now)
    breaker = replace(
        breaker,
        failures_in_row=0 if answers else breaker.failures_in_row + count,
        window_failures=breaker.window_failures + count,
        window_successes=breaker.window_successes + answers,
    )
    runs = breaker.window_failures + breaker.window_successes
    if breaker.failures_in_row >= spec.failures or (runs >= spec.window_runs and breaker.window_failures > spec.share * runs):
        return _opened(breaker, spec, code=code, now=now)
    return breaker


def after_answers(breaker: Breaker, spec: BreakerSpec, *, count: int, now: datetime) -> Breaker | None:
    """The breaker after ``count`` runs, 1 or more, in which the model answered; None: forget it.

    An answer closes it, whoever it was for: the probe, or a run that began before it opened and outlasted the fault.
    """
    if breaker.state is not State.CLOSED or now - breaker.window_started_at > timedelta(seconds=spec.window_s):
        return None
    return replace(breaker, failures_in_row=0, window_successes=breaker.window_successes + count)


def probing(breaker: Breaker, *, probe_s: float, now: datetime) -> Breaker:
    """The breaker with a probe under way, that has ``probe_s`` seconds to say how it went; past that another one may go."""
    return replace(breaker, state=State.HALF_OPEN, probe_at=now + timedelta(seconds=probe_s))


def _opened(breaker: Breaker, spec: BreakerSpec, *, code: str, now: datetime) -> Breaker:
    open_s = min(spec.max_open_s, spec.open_s * 2.0 ** min(breaker.openings, MAX_DOUBLINGS))
    return replace(breaker, state=State.OPEN, openings=breaker.openings + 1, code=code, opened_at=now, probe_at=now + timedelta(seconds=open_s))
