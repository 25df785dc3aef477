import re
from pathlib import Path

import pytest

from domain.job import FINAL, LIVE, TRANSITIONS, Event, Outcome, Priority, Status

SCHEMA = Path(__file__).parents[2] / "migrations" / "versions" / "0002_jobs.py"


def allowed_by_schema(constraint: str) -> set[str]:
    match = re.search(constraint + r"[^\n]*? IN \(([^)]*)\)", SCHEMA.read_text(encoding="utf-8"))
    assert match
    return set(re.findall(r"'([^']*)'", match[1]))


def test_status_is_final_or_live() -> None:
    assert set(Status) == FINAL | LIVE
    assert not FINAL & LIVE
    assert {status for status in Status if status.final} == FINAL


def test_transitions_never_leave_a_final_status() -> None:
    assert {before for before, _ in TRANSITIONS} == LIVE


def test_transitions_reach_every_status_and_use_every_event() -> None:
    assert set(TRANSITIONS.values()) == set(Status)
    assert {event for _, event in TRANSITIONS} == set(Event)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_transitions_every_live_job_can_be_canceled_and_expires(status: Status) -> None:
    assert TRANSITIONS[status, Event.CANCEL] is Status.CANCELED
    assert TRANSITIONS[status, Event.EXPIRE] is Status.EXPIRED


@pytest.mark.parametrize(("constraint", "values"), [("jobs_status CHECK", Status), ("jobs_priority CHECK", Priority), ("outcome text", Outcome)])
def test_schema_repeats_what_the_domain_says(constraint: str, values: type[Status] | type[Priority] | type[Outcome]) -> None:
    assert allowed_by_schema(constraint) == {value.value for value in values}
