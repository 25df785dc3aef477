import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.failures import Failure
from domain.retry import BASE_S, CAP_S, RetryDecision, backoff_s, decide

DICE = st.floats(0, 1, exclude_max=True)
RETRYABLE, FATAL = Failure("model_error", "", retryable=True), Failure("invalid_input", "", retryable=False)


@pytest.mark.parametrize(("failures", "full_s"), [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (1_000, 300)])
def test_backoff_doubles_up_to_its_cap_half_fixed_half_random(failures: int, full_s: float) -> None:
    assert backoff_s(failures, 0.0) == full_s / 2
    assert backoff_s(failures, 0.5) == full_s * 0.75


@given(st.integers(1, 10_000), DICE)
def test_backoff_is_never_near_zero_nor_over_the_cap(failures: int, dice: float) -> None:
    assert BASE_S / 2 <= backoff_s(failures, dice) <= CAP_S


@pytest.mark.parametrize(
    ("failure", "failures", "expected"),
    [(RETRYABLE, 1, RetryDecision(1.0)), (RETRYABLE, 2, RetryDecision(2.0)), (RETRYABLE, 3, None), (RETRYABLE, 4, None), (FATAL, 1, None)],
)
def test_decide_tries_again_while_it_helps_and_may(failure: Failure, failures: int, expected: RetryDecision | None) -> None:
    assert decide(failure, failures=failures, max_attempts=3, dice=0.0) == expected


@pytest.mark.parametrize(("retry_after_s", "delay_s"), [(None, 1.0), (0.0, 1.0), (0.5, 1.0), (7.0, 7.0), (1e9, CAP_S)])
def test_decide_waits_as_long_as_it_was_asked_to_up_to_the_cap(retry_after_s: float | None, delay_s: float) -> None:
    assert decide(RETRYABLE, failures=1, max_attempts=3, dice=0.0, retry_after_s=retry_after_s) == RetryDecision(delay_s)


def test_decide_ends_what_may_not_be_tried_again_whatever_the_wait() -> None:
    assert decide(FATAL, failures=1, max_attempts=3, dice=0.0, retry_after_s=1.0) is None
