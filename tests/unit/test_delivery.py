"""When a delivery is tried again, and what an answer means."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from domain.delivery import LIMITS, SCHEDULE_S, Again, Delivered, Failed, Limits, Standing, TryError, delay_s, error_of, judge, parse_retry_after

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def test_schedule_is_that_of_standard_webhooks() -> None:
    assert SCHEDULE_S == (0, 5, 5 * 60, 30 * 60, 2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600, 24 * 3_600)


@pytest.mark.parametrize("step", range(1, len(SCHEDULE_S)))
def test_delay_is_within_a_fifth_of_the_schedule(step: int) -> None:
    base_s = SCHEDULE_S[step]
    assert delay_s(step, 0.0) == pytest.approx(base_s * 0.8)
    assert delay_s(step, 0.5) == pytest.approx(base_s)
    assert delay_s(step, 1.0) == pytest.approx(base_s * 1.2)


@pytest.mark.parametrize(("asked_s", "delay"), [(0, 300), (1, 300), (299, 300), (300, 300), (450, 450), (600, 600), (601, 600), (99_999, 600), (1e18, 600)])
def test_delay_that_was_asked_for_is_within_once_and_twice_the_schedule(asked_s: float, delay: float) -> None:
    assert delay_s(2, 0.9, retry_after_s=asked_s) == delay


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("99999", 99_999),
        ("9999999999", 9_999_999_999),
        ("99999999999999999999", None),
        ("-1", None),
        ("1.5", None),
        ("1e3", None),
        ("١٢", None),
        ("soon", None),
        ("120, 60", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        ("Mon, 23 Nov 2026 12:01:00", 60),
        ("Monday, 23-Nov-26 12:01:00 GMT", 60),
        ("Mon Nov 23 12:01:00 2026", 60),
        ("Mon, 99 Nov 2026 12:00:00 GMT", None),
        ("Mon, 23 Nov 99999 12:00:00 GMT", None),
        ("Mon, 23 Nov 2026 12:00:00 +9999999", None),
    ],
)
def test_retry_after_in_every_form(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, None) for status in (200, 201, 202, 204, 299)),
        *((status, TryError.REDIRECT_REFUSED) for status in (300, 301, 302, 303, 304, 307, 308)),
        *((status, TryError.HTTP_STATUS) for status in (101, 199, 400, 401, 404, 409, 429, 500, 502, 503, 504, 599, 999)),
        (410, TryError.GONE),
    ],
)
def test_answer_of_2xx_alone_is_success(status: int, error: TryError | None) -> None:
    assert error_of(status) is error


def test_verdict_of_a_success_is_delivered_at_every_step() -> None:
    assert [judge(None, step=step, dice=0.5) for step in range(len(SCHEDULE_S))] == [Delivered()] * len(SCHEDULE_S)


def test_verdict_of_failures_follows_the_schedule_to_its_end() -> None:
    verdicts = [judge(TryError.TIMEOUT, step=step, dice=0.5) for step in range(len(SCHEDULE_S))]
    assert verdicts == [*(Again(pytest.approx(base_s)) for base_s in SCHEDULE_S[1:]), Failed()]  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [TryError.GONE, TryError.EVENT_GONE])
def test_verdict_of_what_is_gone_is_final(error: TryError) -> None:
    assert judge(error, step=0, dice=0.5) == Failed()


def test_verdict_keeps_to_what_the_receiver_asked_for() -> None:
    assert judge(TryError.HTTP_STATUS, step=0, dice=0.5, retry_after_s=7) == Again(7)
    assert judge(TryError.HTTP_STATUS, step=0, dice=0.5, retry_after_s=99) == Again(10)


def test_limits_of_lanes_leave_room_for_endpoints_that_work() -> None:
    assert max(LIMITS[Standing.NEW].tenant, LIMITS[Standing.FAILING].tenant) + LIMITS[Standing.GOOD].good <= LIMITS[Standing.GOOD].tenant
    assert [Limits().sessions(standing) for standing in Standing] == [1, 4, 1]
