import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from uuid import UUID

import pytest
from flask import Flask

from api.waiting import preferred_wait_s
from api.watcher import Watcher
from domain.job import Status
from models.identity import new_id
from models.queries.read import Watched
from models.transactions import DatabaseAway
from tests.support.waiting import wait_until


class Jobs:
    """How jobs stand, as a database would say, and who asked for what."""

    def __init__(self) -> None:
        self.states: dict[UUID, Watched] = {}
        self.looks: list[tuple[float, list[UUID]]] = []
        self.away = False
        self.with_end = False

    def add(self) -> UUID:
        job_id = new_id()
        self.states[job_id] = Watched(job_id, Status.QUEUED, 1)
        return job_id

    def move(self, job_id: UUID, status: Status) -> None:
        self.states[job_id] = Watched(job_id, status, self.states[job_id].event_seq + 1)

    def look(self, ids: Sequence[UUID], with_end: bool) -> list[Watched]:
        self.with_end = with_end
        self.looks.append((time.monotonic(), list(ids)))
        if self.away:
            raise DatabaseAway("gone")
        return [self.states[job_id] for job_id in ids if job_id in self.states]


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def watcher(jobs: Jobs) -> Iterator[Watcher]:
    watcher = Watcher(look=jobs.look, most=3)
    watcher.start()
    yield watcher
    watcher.stop()


def test_watch_wakes_when_the_job_changes(jobs: Jobs, watcher: Watcher) -> None:
    job_id = jobs.add()
    with watcher.watch(job_id, seen=1) as watch:
        assert watch is not None
        assert watch.wait(0.02) is None
        jobs.move(job_id, Status.RUNNING)
        state = watch.wait(5)
        assert state is not None
        assert state.status is Status.RUNNING
        jobs.move(job_id, Status.SUCCEEDED)
        final = watch.wait(5)
        assert final is not None
        assert final.status.final
    assert watcher.held == 0


def test_watch_for_the_end_alone_is_not_woken_before_it_and_asks_for_the_job(jobs: Jobs, watcher: Watcher) -> None:
    job_id = jobs.add()
    with watcher.watch(job_id, seen=1, end_alone=True) as watch:
        assert watch is not None
        jobs.move(job_id, Status.RUNNING)
        assert watch.wait(0.05) is None
        assert watch.state == jobs.states[job_id]
        assert jobs.with_end
        jobs.move(job_id, Status.SUCCEEDED)
        assert watch.wait(5) == jobs.states[job_id]


def test_watch_that_knows_the_end_is_looked_at_no_more(jobs: Jobs, watcher: Watcher) -> None:
    ended, other = jobs.add(), jobs.add()
    jobs.move(ended, Status.SUCCEEDED)
    with watcher.watch(ended, seen=1) as first:
        assert first is not None
        assert first.wait(5) is not None
        jobs.looks.clear()
        with watcher.watch(other, seen=1) as second:
            assert second is not None
            assert second.wait(0.05) is None
    assert {job_id for _, ids in jobs.looks for job_id in ids} == {other}
    assert not jobs.with_end


def test_watch_a_change_before_the_first_look_is_news(jobs: Jobs, watcher: Watcher) -> None:
    job_id = jobs.add()
    jobs.move(job_id, Status.CANCELED)
    with watcher.watch(job_id, seen=1) as watch:
        assert watch is not None
        assert watch.wait(5) == jobs.states[job_id]


def test_watch_beyond_the_most_is_refused_and_room_returns(jobs: Jobs, watcher: Watcher) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(watcher.watch(jobs.add(), seen=1)) for _ in range(3)]
        assert all(held)
        with watcher.watch(jobs.add(), seen=1) as refused:
            assert refused is None
    with watcher.watch(jobs.add(), seen=1) as watch:
        assert watch is not None


def test_watcher_asks_once_for_all_and_sleeps_when_nobody_waits(jobs: Jobs, watcher: Watcher) -> None:
    first, second = jobs.add(), jobs.add()
    with watcher.watch(first, seen=1), watcher.watch(second, seen=1), watcher.watch(first, seen=1):
        wait_until(lambda: any(set(ids) == {first, second} and len(ids) == 2 for _, ids in jobs.looks), 5)
    wait_until(lambda: watcher.held == 0, 5)
    looks = len(jobs.looks)
    with watcher.watch(jobs.add(), seen=1) as watch:
        assert watch is not None
        watch.wait(0.05)
    assert looks <= len(jobs.looks) <= looks + 40


def test_watcher_asks_less_often_for_those_that_wait_long(jobs: Jobs, watcher: Watcher) -> None:
    with watcher.watch(jobs.add(), seen=1) as watch:
        assert watch is not None
        watch._since -= 3_600
        wait_until(lambda: len(jobs.looks) >= 4, 10)
    gaps = [later - earlier for (earlier, _), (later, _) in zip(jobs.looks[1:], jobs.looks[2:], strict=False)]
    assert min(gaps) > 0.1


def test_watcher_looks_at_all_that_wait_long_together(jobs: Jobs, watcher: Watcher) -> None:
    first, second = jobs.add(), jobs.add()
    with watcher.watch(first, seen=1) as early:
        assert early is not None
        early._since -= 3_600
        wait_until(lambda: len(jobs.looks) >= 3, 10)
        with watcher.watch(second, seen=1) as late:
            assert late is not None
            late._since -= 3_600
            looks = len(jobs.looks) + 2  # its own first look, and one that was under way
            wait_until(lambda: len(jobs.looks) >= looks + 3, 10)
    assert all(set(ids) == {first, second} for _, ids in jobs.looks[looks : looks + 3])


def test_watch_database_away_wakes_with_nothing_and_later_waits_work(jobs: Jobs, watcher: Watcher) -> None:
    job_id = jobs.add()
    jobs.away = True
    with watcher.watch(job_id, seen=1) as watch:
        assert watch is not None
        assert watch.wait(5) is None
        assert watch.away
    jobs.away = False
    jobs.move(job_id, Status.RUNNING)
    with watcher.watch(job_id, seen=1) as watch:
        assert watch is not None
        assert watch.wait(5) is not None


def test_watch_job_that_is_gone_wakes_with_nothing(watcher: Watcher) -> None:
    with watcher.watch(new_id(), seen=1) as watch:
        assert watch is not None
        assert watch.wait(5) is None
        assert watch.gone


def test_watcher_stop_wakes_everyone_and_takes_nobody_more(jobs: Jobs) -> None:
    watcher = Watcher(look=jobs.look, most=10)
    watcher.start()
    woken: list[object] = []

    def hold() -> None:
        with watcher.watch(jobs.add(), seen=1) as watch:
            assert watch is not None
            woken.append(watch.wait(30))

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: watcher.held == 4, 5)
    watcher.stop()
    for thread in threads:
        thread.join(5)
    assert woken == [None] * 4
    with watcher.watch(jobs.add(), seen=1) as watch:
        assert watch is None


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (None, 0),
        ("wait=5", 5),
        ("WAIT=5", 5),
        ("wait = 5", 5),
        ('wait="5"', 5),
        ("respond-async, wait=10", 10),
        ("respond-async;wait=10", 10),
        ("wait=10, respond-async", 10),
        ("wait=3; x=y", 3),
        ("wait=100", 60),
        ("wait=999999999", 60),
        ("wait=0", 0),
        ("wait", 0),
        ("wait=", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait=x", 0),
        ("wait=5s", 0),
        ("nowait=5", 0),
        ("wait=²", 0),
        ("wait=1,wait=9", 1),
    ],
)
def test_preferred_wait_reads_the_header_as_rfc_7240_says(header: str | None, wait_s: int) -> None:
    with Flask("t").test_request_context(headers={"Prefer": header} if header is not None else {}):
        assert preferred_wait_s() == wait_s
