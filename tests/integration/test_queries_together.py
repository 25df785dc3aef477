"""Everything that moves jobs, at once, from many threads: nothing deadlocks, and every promise holds for every job."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from sqlalchemy import Engine

from domain.job import Outcome, Priority, Status
from models.queries.claim import ClaimedJob
from models.queries.lease import renew_leases
from models.queries.relay import mark_published, sweep_lost, take_due, unmark_published
from models.transactions import statement
from tests.support.jobs import FAILURE, assert_promises, cancel, claim, fail, give_back, lapse_lease, look_at, run_sql, submit_many, succeed
from workers.maintenance.reaper import Reaper
from workers.maintenance.release import release_worker

JOBS = 120
RUN_S = 3.0


class Storm:
    """Shared by the threads; each ``…_once`` is what one kind of process does, again and again."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ids = submit_many(engine, JOBS, max_attempts=1_000)
        self.claims: list[ClaimedJob] = []
        self.results: Counter[UUID] = Counter()
        self.lock = threading.Lock()
        self.reaper = Reaper(engine, grace_s=0.0, every_s=1.0, dice=lambda: 0.0)
        self.numbers = iter(range(1_000_000))

    def some(self, dice: random.Random) -> list[UUID]:
        return dice.sample(self.ids, dice.randint(1, 16))

    def some_claims(self, dice: random.Random) -> list[ClaimedJob]:
        with self.lock:
            return list({job.id: job for job in dice.sample(self.claims, min(len(self.claims), 8))}.values())

    def claim_once(self, dice: random.Random) -> None:
        with self.lock:
            owner = f"w{dice.randint(1, 3)}:{next(self.numbers)}"
        run_sql(self.engine, "UPDATE jobs SET available_at = now() WHERE id = :id AND status = 'queued'", id=dice.choice(self.ids))
        ids = self.some(dice)
        jobs = claim(self.engine, *ids, owner=owner) or claim(self.engine, ids[0], owner=owner, solo=True)
        with self.lock:
            self.claims.extend(jobs)

    def complete_once(self, dice: random.Random) -> None:
        for job_id in succeed(self.engine, self.some_claims(dice)[:1]):
            with self.lock:
                self.results[job_id] += 1

    def retry_once(self, dice: random.Random) -> None:
        give_back(self.engine, self.some_claims(dice), outcome=Outcome.FAILED, failure=FAILURE, failure_counts=True)

    def fail_once(self, dice: random.Random) -> None:
        if dice.random() < 0.1:
            fail(self.engine, self.some_claims(dice)[:1])

    def cancel_once(self, dice: random.Random) -> None:
        if dice.random() < 0.1:
            row = run_sql(self.engine, "SELECT id, fence FROM jobs WHERE id = :id", id=dice.choice(self.ids))[0]
            cancel(self.engine, row.id, row.fence)

    def renew_once(self, dice: random.Random) -> None:
        owners = {row.id: row.lease_owner for row in run_sql(self.engine, "SELECT id, lease_owner FROM jobs WHERE status = 'running'")}
        with statement(self.engine) as connection:
            renew_leases(connection, holdings=[(job_id, owner) for job_id, owner in owners.items() if dice.random() < 0.8], lease_s=30.0)

    def reap_once(self, dice: random.Random) -> None:
        lapse_lease(self.engine, dice.choice(self.ids))
        self.reaper.run_once()
        if dice.random() < 0.1:
            release_worker(self.engine, f"w{dice.randint(1, 3)}")

    def relay_once(self, dice: random.Random) -> None:
        with statement(self.engine) as connection:
            due = take_due(connection, limit=20, fresh_s=0.0)
        jobs = [(job.id, job.fence) for job in due]
        with statement(self.engine) as connection:
            if dice.random() < 0.3:
                unmark_published(connection, unpublished=jobs)
            else:
                mark_published(connection, published=jobs)
            sweep_lost(connection, pool="debug", priority=Priority.STANDARD, base_s=0.0, cap_s=0.0)


def test_everything_at_once_neither_deadlocks_nor_breaks_a_promise(engine: Engine) -> None:
    storm = Storm(engine)
    until = time.monotonic() + RUN_S

    def repeat(step: Callable[[random.Random], None], seed: int) -> int:
        dice, times = random.Random(seed), 0
        while time.monotonic() < until:
            step(dice)  # a deadlock is DatabaseAway, a row locked for 2 s is LockedRow: both end the test
            times += 1
        return times

    steps = [
        *[storm.claim_once] * 4,
        *[storm.complete_once] * 2,
        *[storm.retry_once] * 2,
        storm.fail_once,
        storm.cancel_once,
        *[storm.renew_once] * 2,
        *[storm.reap_once] * 2,
        storm.relay_once,
    ]
    with ThreadPoolExecutor(len(steps)) as pool:
        for future in [pool.submit(repeat, step, seed) for seed, step in enumerate(steps)]:
            assert future.result() > 0
    for job_id, kept in look_at(engine, storm.ids).items():
        assert_promises(kept)
        assert storm.results[job_id] == (1 if kept.row.status == Status.SUCCEEDED else 0)
