"""A Hypothesis state machine over a real database: whatever happens in whatever order, every job keeps the promises.

Rules are what the system's processes do: submit, claim, complete, fail, retry, cancel, lose a lease, reap, release, expire; messages
are delivered late and twice, dead workers wake up and write, and
parents wait for their children. ``MILLPOND_TEST_STATE_MACHINE_EXAMPLES`` asks for more than CI's share.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule, run_state_machine_as_test
from sqlalchemy import Engine

from domain import retry
from domain.job import MAX_CRASHES, TRANSITIONS, ChildRole, Event, Outcome, Status
from models.queries.claim import ClaimedJob
from models.queries.finish import Ending, finish_jobs
from models.queries.lease import renew_leases
from models.queries.relay import take_due
from models.transactions import statement
from tests.support.jobs import FAILURE, Kept, assert_promises, cancel, claim, fail, give_back, lapse_lease, look, look_at, new_job, run_sql, submit, succeed
from workers.maintenance.reaper import Reaper
from workers.maintenance.release import release_worker

EXAMPLES = int(os.environ.get("MILLPOND_TEST_STATE_MACHINE_EXAMPLES", "20"))
STEPS = 30


@dataclass(frozen=True, slots=True)
class Message:
    """A hint of jobs, which may be delivered any number of times, at any time."""

    ids: tuple[UUID, ...]
    solo: bool


@dataclass(slots=True)
class Seen:
    """What was known of a job when it was last looked at."""

    kept: Kept
    history: list[Status] = field(default_factory=lambda: [Status.QUEUED])


class Millpond(RuleBasedStateMachine):
    """Drives jobs; bundles hold messages in flight, and claims whose holders may act at any later time, dead or not."""

    engine: Engine
    messages = Bundle("messages")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[UUID, Seen] = {}
        self.ids: list[UUID] = []
        self.families: dict[UUID, list[UUID]] = {}
        self.dispatches = 0
        self.outputs: dict[UUID, str] = {}
        self.reaper = Reaper(self.engine, grace_s=5.0, every_s=1.0, dice=lambda: 0.5)

    # --- what clients do

    @rule(target=messages, count=st.integers(1, 4), max_attempts=st.integers(1, 3))
    def submit(self, count: int, max_attempts: int) -> Message:
        ids = submit(self.engine, *(new_job(max_attempts=max_attempts) for _ in range(count)))
        for job_id in ids:
            self.seen[job_id] = Seen(look(self.engine, job_id))
        self.ids.extend(ids)
        return Message(tuple(ids), solo=False)

    @rule(target=messages, count=st.integers(1, 3))
    def submit_family(self, count: int) -> object:
        parent = replace(new_job(), children=tuple(new_job(child_role=ChildRole.CONSENSUS) for _ in range(count)))
        submit(self.engine, parent)
        members = [parent.id, *(child.id for child in parent.children)]
        self.families[parent.id] = members[1:]
        for job_id in members:
            self.seen[job_id] = Seen(look(self.engine, job_id))
        self.ids.extend(members)
        return multiple(Message(tuple(members[1:]), solo=False), Message((parent.id,), solo=False))

    @rule(message=messages, fresh=st.booleans())
    def cancel(self, message: Message, fresh: bool) -> None:
        job_id = message.ids[0]
        row = look(self.engine, job_id).row
        done = cancel(self.engine, job_id, row.fence if fresh else row.fence - 1)
        assert bool(done) == (fresh and not Status(row.status).final), "a stale cancel was taken, or a fresh one was not"

    # --- what the broker and the relay do

    @rule(target=messages, fresh_s=st.just(0.0))
    def relay(self, fresh_s: float) -> object:
        run_sql(self.engine, "UPDATE jobs SET available_at = now() WHERE status = 'queued' AND available_at < 'infinity'")  # time passes
        with statement(self.engine) as connection:
            due = take_due(connection, limit=100, fresh_s=fresh_s)
        packed = tuple(sorted(job.id for job in due if not job.solo))
        alone = [Message((job.id,), solo=True) for job in due if job.solo]
        return multiple(*([Message(packed, solo=False)] if packed else []), *alone)

    @rule(message=consumes(messages))
    def lose_message(self, message: Message) -> None:
        run_sql(self.engine, "UPDATE jobs SET published_at = NULL WHERE id = ANY (:ids) AND status = 'queued'", ids=list(message.ids))  # the sweep

    # --- what workers do; a message is not consumed: it may be delivered again

    @rule(target=claims, message=messages, worker=st.sampled_from(["a", "b"]))
    def deliver(self, message: Message, worker: str) -> object:
        self.dispatches += 1
        jobs = claim(self.engine, *message.ids, owner=f"{worker}:{self.dispatches}", solo=message.solo)
        for job in jobs:
            assert job.attempt == self.seen[job.id].kept.row.attempt + 1
            assert not job.solo or message.solo
        return multiple(*jobs)

    @rule(job=claims)
    def complete(self, job: ClaimedJob) -> None:
        owns = self.owns(job)
        output = f'{{"payload": {job.fence}}}'
        with statement(self.engine) as connection:
            done = finish_jobs(connection, endings=[Ending(job.id, job.fence, Status.SUCCEEDED, output_json=output)])
        assert bool(done) == owns, "a stale worker wrote a result"
        if done:
            self.outputs[job.id] = output

    def owns(self, job: ClaimedJob) -> bool:
        """Whether the holder of this claim is the job's owner still."""
        row = self.seen[job.id].kept.row
        return bool(row.status == Status.RUNNING and row.fence == job.fence)

    @rule(job=claims)
    def run_fails(self, job: ClaimedJob) -> None:
        decision = retry.decide(FAILURE, failures=job.failures + 1, max_attempts=job.max_attempts, dice=0.0)
        owns = self.owns(job)
        if decision is None:
            done = fail(self.engine, [job])
        else:
            done = give_back(self.engine, [job], outcome=Outcome.FAILED, failure=FAILURE, failure_counts=True, delay_s=decision.delay_s)
        assert bool(done) == owns, "a stale worker spent an attempt"

    @rule(job=claims)
    def hand_back(self, job: ClaimedJob) -> None:
        owns = self.owns(job)
        assert bool(give_back(self.engine, [job])) == owns, "a stale worker gave away what another one runs"

    @rule(job=claims)
    def renew(self, job: ClaimedJob) -> None:
        row = look(self.engine, job.id).row
        with statement(self.engine) as connection:
            (state,) = renew_leases(connection, holdings=[(job.id, row.lease_owner or "nobody")], lease_s=30.0)
        assert state.held == (row.status == Status.RUNNING)
        assert state.fence >= job.fence

    # --- what maintenance does

    @rule(job=claims)
    def lose_lease(self, job: ClaimedJob) -> None:
        lapse_lease(self.engine, job.id)

    @rule()
    def reap(self) -> None:
        self.reaper.run_once()

    @rule(worker=st.sampled_from(["a", "b"]))
    def worker_is_killed_and_released(self, worker: str) -> None:
        release_worker(self.engine, worker)

    @rule(message=messages)
    def deadline_passes(self, message: Message) -> None:
        run_sql(self.engine, "UPDATE jobs SET deadline_at = now() - interval '1 second' WHERE id = :id", id=message.ids[0])

    # --- what must hold

    @invariant()
    def parents_wait_for_their_children_and_for_nobody_else(self) -> None:
        for row in run_sql(
            self.engine,
            "SELECT status, pending_children, available_at = 'infinity' AS held, attempt, (SELECT count(*) FROM jobs c WHERE c.parent_id = p.id "
            "AND c.finished_at IS NULL) AS live FROM jobs p WHERE pending_children IS NOT NULL AND finished_at IS NULL",
        ):
            assert row.pending_children == row.live, "a child's end was counted twice, or not at all"
            assert row.held == (row.live > 0), "a parent is held that waits for nobody, or is due while it waits"
            assert row.live == 0 or (row.status, row.attempt) == ("queued", 0)

    @invariant()
    def promises_hold(self) -> None:
        for job_id, kept in look_at(self.engine, self.ids).items():
            seen = self.seen[job_id]
            assert_promises(kept)
            moves = [Status(event.status) for event in kept.events if event.type == "status"]
            for before, after in pairwise(moves):
                assert after in _NEXT[before], f"{before} -> {after}"
            assert moves[: len(seen.history)] == seen.history, "history was rewritten"
            assert kept.attempts[: len(seen.kept.attempts)] == seen.kept.attempts, "an attempt was overwritten"
            assert kept.row.fence >= seen.kept.row.fence
            assert kept.row.failures == sum(attempt.outcome == Outcome.FAILED for attempt in kept.attempts)
            if Status(seen.kept.row.status).final:
                assert _lasting(kept) == _lasting(seen.kept), "a final job changed"
            if kept.row.status == Status.SUCCEEDED:
                assert self.outputs[job_id] == f'{{"payload": {kept.outputs[0].output["payload"]}}}'
            if kept.row.status == Status.FAILED:
                assert kept.row.failures == kept.row.max_attempts or kept.row.crashes == MAX_CRASHES
            self.seen[job_id] = Seen(kept, moves)

    def teardown(self) -> None:
        """Whatever has happened, every job ends if time goes on: nothing is stuck."""
        if not self.ids:
            return
        self.promises_hold()
        lapse_lease(self.engine, *self.ids)
        self.reaper.run_once()
        for _ in range(2):  # children, and then the parents that they were waited for by
            run_sql(self.engine, "UPDATE jobs SET available_at = now() WHERE status = 'queued' AND available_at < 'infinity'")
            for row in run_sql(self.engine, "SELECT id FROM jobs WHERE status = 'queued' AND solo AND deadline_at > now()"):
                succeed(self.engine, claim(self.engine, row.id, owner="last:1", solo=True))
            succeed(self.engine, claim(self.engine, *self.ids, owner="last:2"))
        self.reaper.run_once()
        for kept in look_at(self.engine, self.ids).values():
            assert_promises(kept)
            assert Status(kept.row.status).final
        run_sql(self.engine, "UPDATE jobs SET deadline_at = 'infinity'")


_NEXT = {status: {after for (before, _), after in TRANSITIONS.items() if before is status} for status in Status}


def _lasting(kept: Kept) -> tuple[object, ...]:
    row = kept.row
    return row.status, row.fence, row.finished_at, row.attempt, row.error, row.event_seq, kept.outputs, kept.attempts, kept.events


@contextmanager
def _database_of(engine: Engine) -> Iterator[type[Millpond]]:
    """The machine, bound to this test's database: Hypothesis makes its instances without arguments.

    Commits are not waited for: nothing crashes here, and thousands of them would be most of the time.
    """
    run_sql(engine, f'ALTER DATABASE "{engine.url.database}" SET synchronous_commit = off')
    engine.dispose()
    yield type("MillpondHere", (Millpond,), {"engine": engine})


def run_machine(engine: Engine, examples: int, *, seed: bool = True, phases: Sequence[Phase] = tuple(Phase)) -> None:
    profile = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=seed,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
        phases=phases,
    )
    with _database_of(engine) as machine:
        run_state_machine_as_test(machine, settings=profile)


def test_state_machine_holds_the_promises(engine: Engine) -> None:
    run_machine(engine, EXAMPLES, seed="MILLPOND_TEST_STATE_MACHINE_EXAMPLES" not in os.environ)


def test_state_machine_without_the_fence_finds_a_broken_promise(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that the machine can fail."""
    from models.queries import finish  # noqa: PLC0415
    from tests.support.echo_variants import FENCE, without  # noqa: PLC0415

    monkeypatch.setattr(finish, "_FINISH_CHILDREN", without(finish._FINISH_CHILDREN, *FENCE))
    with pytest.raises(AssertionError, match="stale"):
        run_machine(engine, 100, phases=[Phase.generate])  # found within a few; the smallest case is of no interest here


def test_transitions_every_event_is_used_and_no_final_status_is_left() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)
    assert not any(status.final for status, _ in TRANSITIONS)
