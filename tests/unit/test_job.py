import re
from enum import StrEnum
from pathlib import Path

import pytest

from domain.job import FINAL, LIVE, TRANSITIONS, ChildRole, Event, Outcome, Priority, Status

MIGRATIONS = Path(__file__).parents[2] / "migrations" / "versions"


def allowed_by_schema(migration: str, constraint: str) -> set[str]:
    match = re.search(constraint + r"[^\n]*? IN \(([^)]*)\)", (MIGRATIONS / migration).read_text(encoding="utf-8"))
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


@pytest.mark.parametrize(
    ("migration", "constraint", "values"),
    [
        ("0002_jobs.py", "jobs_status CHECK", Status),
        ("0002_jobs.py", "jobs_priority CHECK", Priority),
        ("0008_consensus.py", r"CHECK \(outcome", Outcome),
        ("0008_consensus.py", "jobs_child_role CHECK", ChildRole),
    ],
)
def test_schema_repeats_what_the_domain_says(migration: str, constraint: str, values: type[StrEnum]) -> None:
    assert allowed_by_schema(migration, constraint) == {value.value for value in values}
