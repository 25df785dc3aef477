"""Whether a failed run is tried again, and after how long."""

from dataclasses import dataclass

from domain.failures import Failure

BASE_S = 2.0
CAP_S = 300.0


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Run the job again, not before ``delay_s`` seconds have passed."""

    delay_s: float


def backoff_s(failures: int, dice: float) -> float:
    """The wait before the next attempt: equal jitter over ``min(300, 2 · 2^(n-1))`` seconds.

    Half of the wait is fixed and half random: with full jitter a retry may come almost at once.

    Args:
        failures: how many runs have failed, this one included; 1 or more.
        dice: uniform in [0, 1).
    """
    full_s = min(CAP_S, BASE_S * 2.0 ** min(failures - 1, 16))
    return full_s / 2 + full_s / 2 * dice


def decide(failure: Failure, *, failures: int, max_attempts: int, dice: float, retry_after_s: float | None = None) -> RetryDecision | None:
    """The next attempt of a job whose run failed for its own reason, or None when it is over.

    Args:
        failure: why the run failed.
        failures: how many runs have failed, this one included.
        max_attempts: the job's bound.
        dice: uniform in [0, 1).
        retry_after_s: how long whoever failed us asked to be left alone; kept to up to the cap.
    """
    if not failure.retryable or failures >= max_attempts:
        return None
    return RetryDecision(delay_s=max(backoff_s(failures, dice), min(CAP_S, retry_after_s or 0.0)))
