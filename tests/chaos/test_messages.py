"""Messages are hints: lost, doubled, late, unreadable or wrong ones change nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest

from domain.messages import JobsMessage
from models.identity import new_id
from tests.chaos.scenarios import queue_purged
from tests.chaos.steps import canceled, echoes, ready_messages, seen_idle, sent
from tests.support.platform import Platform, Running, check_invariants
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos


@dataclass(frozen=True, slots=True)
class Raw(JobsMessage):
    """A message with a body of one's choice."""

    body: object = None

    def encode(self) -> dict[str, object]:
        return self.body  # type: ignore[return-value]


def test_purged_queue_is_noticed_by_the_sweep(mill: Platform) -> None:
    ids = queue_purged(mill)

    with mill.worker("late"):
        mill.wait_final(ids)
    assert {job.attempt for job in mill.jobs(ids)} == {1}
    check_invariants(mill.engine, ids)


def test_message_delivered_five_times_runs_its_jobs_once(mill: Platform, worker: Running) -> None:
    ids = mill.submit(*echoes(12, delay_ms=300))
    mill.publish(ids, times=5)

    mill.wait_final(ids)
    wait_until(lambda: ready_messages(mill) == 0, 10.0, what="all copies to be read")
    seen_idle(mill, "shared")

    assert {(job.status, job.attempt, job.fence) for job in mill.jobs(ids)} == {("succeeded", 1, 1)}
    check_invariants(mill.engine, ids)


def test_message_that_comes_after_the_end_is_dropped(mill: Platform, worker: Running) -> None:
    finished = mill.give(*echoes(2))
    mill.wait_final(finished)
    wanted_no_more = mill.submit(*echoes(2))
    canceled(mill, *wanted_no_more)

    mill.publish([*finished, *wanted_no_more])
    last = mill.give(*echoes(1))
    mill.wait_final(last)
    seen_idle(mill, "shared")

    assert [(job.status, job.attempt) for job in mill.jobs([*finished, *wanted_no_more])] == [("succeeded", 1)] * 2 + [("canceled", 0)] * 2
    check_invariants(mill.engine, [*finished, *wanted_no_more, *last])


def _unreadable(ids: Sequence[UUID]) -> list[Raw]:
    hexes = [job_id.hex for job_id in ids]
    bodies: list[object] = [
        {"schema": 99, "model": "echo", "ids": hexes},
        {"schema": 1, "model": "no-such-model", "ids": hexes},
        {"schema": 1, "model": "echo", "ids": ["not an id"]},
        {"schema": 1, "model": "echo"},
        "words",
        None,
    ]
    return [Raw("echo", tuple(ids), body=body) for body in bodies]


def test_messages_nobody_can_read_are_dropped_and_their_jobs_come_again(mill: Platform, worker: Running) -> None:
    ids = mill.submit(*echoes(2))
    before = worker.said(" dropped")
    sent(mill, *_unreadable(ids))
    mill.publish(ids, times=0)  # noted as published; no readable message speaks of them

    mill.wait_final(ids)
    assert worker.said(" dropped") == before + 6
    assert {job.attempt for job in mill.jobs(ids)} == {1}
    check_invariants(mill.engine, ids)


def test_message_for_jobs_that_do_not_exist_harms_nobody(mill: Platform, worker: Running) -> None:
    ids = mill.submit(*echoes(2))
    sent(mill, JobsMessage("echo", (new_id(), ids[0], new_id(), ids[1], ids[0])))

    mill.wait_final(ids)
    check_invariants(mill.engine, ids)
