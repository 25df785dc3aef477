"""The breaker as a pure state machine: when it opens, for how long, and how it closes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.routing.breaker import Breaker, BreakerSpec, State, after_answers, after_failures, probing

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SPEC = BreakerSpec()


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def failing(count: int, *, at: datetime = NOW, breaker: Breaker | None = None, code: str = "provider_unavailable") -> Breaker:
    return after_failures(breaker, SPEC, count=count, code=code, now=at)


def test_breaker_opens_at_so_many_failures_in_a_row_together_or_one_by_one() -> None:
    almost = failing(4)
    assert (almost.state, almost.shut_until(NOW)) == (State.CLOSED, None)
    opened = failing(1, breaker=almost)
    assert (opened.state, opened.openings, opened.code, opened.opened_at) == (State.OPEN, 1, "provider_unavailable", NOW)
    assert opened.shut_until(NOW) == later(30)
    assert opened.shut_until(later(30)) is None
    assert failing(5).state is State.OPEN
    assert failing(1, breaker=failing(4), at=later(3_600)).state is State.OPEN  # however slow they come


@pytest.mark.parametrize(("answers", "rounds"), [(8, None), (1, 5)])
def test_breaker_answers_between_failures_begin_the_row_anew_but_opens_where_most_runs_fail(answers: int, rounds: int | None) -> None:
    breaker: Breaker | None = None
    for number in range(1, 11):
        breaker = failing(4, breaker=breaker)
        if breaker.state is State.OPEN:
            assert number == rounds  # the first in which 20 runs had ended
            return
        breaker = after_answers(breaker, SPEC, count=answers, now=NOW)
    assert rounds is None


def test_breaker_failures_among_answers_are_no_row_but_opens_where_most_runs_fail() -> None:
    breaker = after_failures(failing(4), SPEC, count=9, code="provider_rate_limited", now=NOW, answers=55)
    assert (breaker.state, breaker.failures_in_row, breaker.window_failures, breaker.window_successes) == (State.CLOSED, 0, 13, 55)
    assert after_failures(None, SPEC, count=21, code="provider_rate_limited", now=NOW, answers=43).state is State.CLOSED
    assert after_failures(None, SPEC, count=43, code="provider_rate_limited", now=NOW, answers=21).state is State.OPEN
    late = after_failures(failing(5), SPEC, count=3, code="provider_unavailable", now=later(1), answers=1)
    assert (late.state, late.window_failures) == (State.CLOSED, 3)  # an answer closes it, whatever came with it


def test_breaker_that_works_again_is_forgotten() -> None:
    once = failing(1)
    still = after_answers(once, SPEC, count=1, now=NOW)
    assert still is not None
    assert still.failures_in_row == 0
    assert after_answers(still, SPEC, count=1, now=later(61)) is None
    assert after_answers(probing(failing(5), probe_s=9, now=later(30)), SPEC, count=1, now=later(31)) is None
    assert after_answers(failing(5), SPEC, count=1, now=later(1)) is None  # a run that began before


def test_breaker_probe_goes_alone_and_each_that_fails_doubles_the_wait() -> None:
    breaker, now, waits = failing(5), NOW, []
    for _ in range(6):
        assert breaker.probe_at is not None
        waits.append((breaker.probe_at - now).total_seconds())
        now = breaker.probe_at
        breaker = probing(breaker, probe_s=10.0, now=now)
        assert breaker.state is State.HALF_OPEN
        assert breaker.shut_until(now) == now + timedelta(seconds=10)
        assert breaker.shut_until(now + timedelta(seconds=10)) is None  # whoever had the probe is gone
        breaker = failing(1, at=now, breaker=breaker)
    assert waits == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0]


def test_breaker_that_is_open_is_not_opened_again_by_runs_that_were_under_way() -> None:
    opened = failing(5)
    assert failing(7, at=later(20), breaker=opened) == opened


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["fail", "answer", "probe"]), st.integers(1, 30), st.floats(0, 400))))
def test_breaker_whatever_happens_is_whole(steps: list[tuple[str, int, float]]) -> None:
    breaker: Breaker | None = None
    now, failed_in_row = NOW, 0
    for what, count, wait_s in steps:
        now += timedelta(seconds=wait_s)
        if what == "fail":
            breaker = failing(count, at=now, breaker=breaker)
            failed_in_row += count
            assert failed_in_row < SPEC.failures or breaker.state is not State.CLOSED
        elif what == "answer" and breaker is not None:
            breaker, failed_in_row = after_answers(breaker, SPEC, count=count, now=now), 0
        elif what == "probe" and breaker is not None and breaker.state is not State.CLOSED and breaker.shut_until(now) is None:
            breaker = probing(breaker, probe_s=5.0, now=now)
        if breaker is not None:
            assert (breaker.state is State.CLOSED) == (breaker.probe_at is None)  # as the database's constraint has it
            assert breaker.state is State.CLOSED or breaker.openings >= 1
            if breaker.state is State.OPEN and breaker.opened_at == now and breaker.probe_at is not None:
                assert SPEC.open_s <= (breaker.probe_at - now).total_seconds() <= SPEC.max_open_s
