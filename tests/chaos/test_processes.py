"""Processes die, stand still, are told to stop, or start too early."""

import signal
from uuid import UUID

import pytest

from domain.job import Priority
from tests.chaos.gate import Gate
from tests.chaos.scenarios import worker_killed_while_it_runs, zombie_wakes
from tests.chaos.steps import ONCE_HANGING, echoes, ready_messages
from tests.support.platform import Platform, check_invariants, echo_catalogue
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos


def test_child_killed_mid_inference_loses_nothing(mill: Platform) -> None:
    with mill.worker(concurrency=1) as worker:
        ids = mill.give(*echoes(6, delay_ms=1_000))
        mill.wait_running(ids)
        worker.children[0].kill()
        mill.wait_final(ids, within_s=60.0)
        assert {(job.status, job.attempt, job.crashes) for job in mill.jobs(ids)} == {("succeeded", 1, 0)}, "run again in the same attempt"

        (lone,) = mill.give(ONCE_HANGING)
        mill.wait_running([lone])
        worker.children[0].kill()
        mill.wait_final([lone], within_s=60.0)
        assert [(job.status, job.attempt, job.crashes, job.failures) for job in mill.jobs([lone])] == [("succeeded", 2, 1, 0)]
    check_invariants(mill.engine, [*ids, lone])


def test_worker_killed_its_jobs_are_reaped_and_finished_by_another(mill: Platform) -> None:
    ids = worker_killed_while_it_runs(mill)

    with mill.worker("heir"):
        mill.wait_final(ids)

    assert {(job.status, job.attempt) for job in mill.jobs(ids)} == {("succeeded", 2)}
    assert [job.crashes for job in mill.jobs(ids)] == [0, 0, 0, 0, 0, 1], "the lone one may be to blame, the others are not"
    check_invariants(mill.engine, ids)


def test_worker_that_was_ready_and_loads_its_model_no_more_ends_as_one_that_dies(mill: Platform) -> None:
    options = f'{{ mark = "{mill.folder / "mark"}" }}'
    catalogue = mill.write_catalogue(echo_catalogue(batches_per_child=1, backend="tests.support.echo_variants:OnceLoadedEcho", options=options))
    with mill.worker(concurrency=1, catalogue=catalogue) as worker:
        ids = mill.give(*echoes(1))

        assert worker.wait_gone(60.0) == 1

    assert worker.said("its models cannot be loaded")
    with mill.worker("heir"):
        mill.wait_final(ids)
    check_invariants(mill.engine, ids)


def test_zombie_that_wakes_is_refused(mill: Platform) -> None:
    ids = zombie_wakes(mill)

    assert mill.workers_of(ids) == {"heir": 2}
    assert [mill.outcomes(job_id) for job_id in ids] == [["lost", "succeeded"]] * 2
    check_invariants(mill.engine, ids)


def test_stop_lets_running_batches_finish_and_starts_nothing_twice(mill: Platform) -> None:
    with mill.worker("old") as old:
        ids = mill.give(*echoes(400, delay_ms=1_500))
        mill.wait_running(ids, 100)
        running = {job.id for job in mill.jobs(ids) if job.status == "running"}
        assert old.terminate() == 0
        done = {job.id for job in mill.jobs(ids) if job.status == "succeeded"}
        assert running <= done
        assert mill.statuses(ids)["running"] == 0
        assert mill.statuses(ids)["queued"] > 0, "it did not start what it could not finish"
    with mill.worker("new"):
        mill.wait_final(ids, within_s=60.0)

    assert {(job.status, job.attempt) for job in mill.jobs(ids)} == {("succeeded", 1)}
    check_invariants(mill.engine, ids)


def test_jobs_of_every_lane_that_come_while_a_worker_stops_are_done_by_the_next(bare: Platform) -> None:
    """Without maintenance, so that what is lost on the way does not come again."""
    ids: list[UUID] = []
    with bare.worker("old", concurrency=1) as old:
        old.send(signal.SIGTERM)
        while old.exit_code is None and len(ids) < 3_000:
            for priority in Priority:
                ids += bare.give(*echoes(1), priority=priority.value)
    with bare.worker("new", concurrency=1):
        assert bare.wait_final(ids) == {"succeeded": len(ids)}


def test_stop_gives_back_what_outlasts_the_drain(mill: Platform) -> None:
    with mill.worker("old", drain_s=1) as old:
        ids = mill.give(*[ONCE_HANGING] * 3, timeout_s=300.0)
        mill.wait_running(ids)
        old.terminate()
        assert [(job.status, job.failures, job.crashes) for job in mill.jobs(ids)] == [("queued", 0, 0)] * 3
    with mill.worker("new"):
        mill.wait_final(ids)

    assert [mill.outcomes(job_id) for job_id in ids] == [["released", "succeeded"]] * 3
    check_invariants(mill.engine, ids)


def test_model_that_does_not_load_claims_nothing_and_ends_the_worker(mill: Platform) -> None:
    broken = mill.write_catalogue(echo_catalogue(options="{ nonsense = 1 }"))
    ids = mill.submit(*echoes(20))
    mill.publish(ids)
    worker = mill.start_worker("broken", catalogue=broken)

    assert worker.wait_gone(within_s=60.0) == 3
    assert worker.said("a model did not load") >= 3
    assert worker.said("worker ready") == 0
    assert {(job.status, job.attempt) for job in mill.jobs(ids)} == {("queued", 0)}
    with mill.worker("sound"):
        mill.wait_final(ids)
    check_invariants(mill.engine, ids)


def test_worker_started_before_its_servers_waits_for_them(mill: Platform) -> None:
    with Gate(mill.broker_url) as broker, Gate(mill.database_url) as database:
        broker.shut()
        database.shut()
        worker = mill.start_worker("early", broker_url=broker.url, database_url=database.url)
        wait_until(lambda: worker.said("Cannot connect") >= 1 and worker.said("leases were not renewed") >= 1, 30.0, what="both to be missed")
        assert worker.exit_code is None
        database.open()
        broker.open()
        mill.wait_ready(worker, within_s=60.0)
        ids = mill.give(*echoes(3))
        mill.wait_final(ids)
        check_invariants(mill.engine, ids)
        worker.end()


def test_children_replaced_by_count_lose_nothing(mill: Platform) -> None:
    catalogue = mill.write_catalogue(echo_catalogue(batches_per_child=10, max_batch_size=4))
    with mill.worker("recycling", concurrency=1, catalogue=catalogue) as worker:
        before = {child.pid for child in worker.children}
        ids = mill.give(*echoes(100), ids_per_message=1)  # 25 batches or more
        mill.wait_final(ids, within_s=60.0)
        assert before.isdisjoint({child.pid for child in worker.children})

    assert {(job.status, job.attempt) for job in mill.jobs(ids)} == {("succeeded", 1)}
    check_invariants(mill.engine, ids)


def test_interrupt_of_a_worker_is_a_stop_too(mill: Platform) -> None:
    with mill.worker("interrupted") as worker:
        ids = mill.give(*echoes(3, delay_ms=500))
        mill.wait_running(ids)
        worker.send(signal.SIGINT)
        worker.wait_gone()
    assert {job.status for job in mill.jobs(ids)} == {"succeeded"}
    assert ready_messages(mill) == 0
    check_invariants(mill.engine, ids)
