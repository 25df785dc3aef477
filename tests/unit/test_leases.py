"""What the lease keeper renews, when it raises stop flags, and when it forgets a ghost; on a real database."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from models.transactions import make_engine
from tests.support.jobs import cancel, claim, lapse_lease, look, run_sql, submit_many
from tests.support.worker_parts import Message, Rack, worker_config
from workers.board import Progress
from workers.dispatch import Dispatch
from workers.leases import LeaseKeeper


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=2)
    yield engine
    engine.dispose()


class Desk:
    """A lease keeper, and a dispatch of jobs that it holds in the database."""

    def __init__(self, folder: Path, engine: Engine, count: int = 3) -> None:
        self.engine = engine
        self.rack = Rack(replace(worker_config(folder), lease_s=30.0))
        self.rack.load()
        self.ids = submit_many(engine, count)
        self.rack.deliver(Message(*self.ids))
        (self.dispatch,) = self.rack.batcher.dispatches
        self.keeper = LeaseKeeper(self.rack.config, engine, self.rack.batcher)

    def claim(self) -> None:
        claim(self.engine, *self.ids, owner=self.dispatch.owner)
        for index in range(len(self.ids)):
            self.dispatch.place.set_progress(index, Progress.RUNNING)

    def held(self) -> set[UUID]:
        """The jobs whose leases were renewed lately."""
        return {row.id for row in run_sql(self.engine, "SELECT id FROM jobs WHERE lease_expires_at > now() + interval '20 s'")}

    def stopped(self) -> list[bool]:
        return [self.dispatch.place.stopped(index) for index in range(len(self.ids))]


@pytest.fixture
def desk(tmp_path: Path, engine: Engine) -> Desk:
    return Desk(tmp_path, engine)


def _lapse(desk: Desk) -> None:
    lapse_lease(desk.engine, *desk.ids, by_s=-1.0)  # a second is left
    assert desk.held() == set()


def test_leases_of_what_runs_are_renewed_and_those_of_what_is_done_are_not(desk: Desk) -> None:
    desk.claim()
    _lapse(desk)
    desk.dispatch.place.set_progress(0, Progress.DONE)

    desk.keeper.tick()

    assert desk.held() == set(desk.ids[1:])


def test_leases_of_what_waits_to_run_again_are_renewed(desk: Desk) -> None:
    """Found by a poison in a slow batch: its mates, run one by one, were taken away while they waited."""
    desk.claim()
    desk.rack.pool.last.die()
    desk.rack.batcher.again(desk.dispatch, [[job_id] for job_id in desk.ids])
    _lapse(desk)

    desk.keeper.tick()

    assert desk.held() == set(desk.ids)


def test_job_that_was_canceled_is_stopped_and_its_mates_are_not(desk: Desk) -> None:
    desk.claim()
    desk.keeper.tick()
    cancel(desk.engine, desk.ids[1], look(desk.engine, desk.ids[1]).row.fence)

    desk.keeper.tick()

    assert desk.stopped() == [False, True, False]


def test_job_that_another_owns_is_stopped(desk: Desk) -> None:
    desk.claim()
    desk.keeper.tick()
    run_sql(desk.engine, "UPDATE jobs SET lease_owner = 'x:1', fence = fence + 2 WHERE id = :id", id=desk.ids[2])

    desk.keeper.tick()

    assert desk.stopped() == [False, False, True]


def test_job_that_is_not_claimed_yet_is_not_stopped(desk: Desk) -> None:
    desk.keeper.tick()

    assert desk.stopped() == [False, False, False]


def _ghost(desk: Desk) -> Dispatch:
    desk.rack.connect()  # no child had accepted it
    assert desk.rack.batcher.is_ghost(desk.dispatch)
    return desk.dispatch


def test_ghost_that_holds_jobs_keeps_its_leases(desk: Desk) -> None:
    desk.claim()
    ghost = _ghost(desk)
    ghost.born_at -= 3_600.0
    _lapse(desk)

    desk.keeper.tick()

    assert desk.held() == set(desk.ids)
    assert desk.rack.batcher.is_ghost(ghost)


def test_ghost_that_holds_nothing_is_forgotten_after_a_lease(desk: Desk) -> None:
    ghost = _ghost(desk)
    desk.keeper.tick()
    assert desk.rack.batcher.is_ghost(ghost)

    ghost.born_at -= 3_600.0
    desk.keeper.tick()

    assert desk.rack.batcher.dispatches == []


def test_ghost_whose_child_died_is_forgotten_so_that_its_jobs_are_reaped(desk: Desk) -> None:
    """Nobody hears of the death of a ghost's child: renewed for ever, its jobs would run for ever."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    desk.claim()
    _ghost(desk).place.enter(child.pid)
    desk.keeper.tick()
    _lapse(desk)

    desk.keeper.tick()

    assert desk.held() == set()
    assert desk.rack.batcher.dispatches == []


def test_worker_says_how_it_is_and_is_forgotten_when_it_stops(desk: Desk) -> None:
    desk.keeper.start()
    desk.keeper.tick()
    (row,) = run_sql(desk.engine, "SELECT * FROM worker_processes")
    assert (row.name, row.pool, row.ready, row.busy, row.concurrency) == ("w", "debug", True, 1, 1)

    desk.keeper.stop()

    assert run_sql(desk.engine, "SELECT * FROM worker_processes") == []
