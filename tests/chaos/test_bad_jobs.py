"""Jobs that hurt: each fails alone, and those that ran beside it succeed at their first attempt."""

import pytest

from tests.chaos.steps import canceled, echoes
from tests.support.jobs import run_sql
from tests.support.platform import Platform, Running, check_invariants
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos


def test_poison_in_a_batch_of_good_jobs_fails_alone(mill: Platform, worker: Running) -> None:
    good = mill.submit(*echoes(30))
    (poison,) = mill.submit({"payload": "poison", "fail": "crash"})
    mill.publish([*good[:15], poison, *good[15:]], ids_per_message=31)

    mill.wait_final([*good, poison])

    assert {(job.status, job.attempt, job.failures, job.crashes) for job in mill.jobs(good)} == {("succeeded", 1, 0, 0)}
    (job,) = mill.jobs([poison])
    assert (job.status, job.error["code"], job.crashes, job.attempt) == ("failed", "worker_lost", 3, 3)
    assert mill.outcomes(poison) == ["lost", "lost", "lost"]
    check_invariants(mill.engine, [*good, poison])


def test_poison_in_a_slow_batch_leaves_the_leases_of_those_that_run_again(mill: Platform, worker: Running) -> None:
    """Run one by one, the last of them waits for longer than a lease: somebody must hold it meanwhile."""
    good = mill.submit(*echoes(16, delay_ms=700))
    (poison,) = mill.submit({"payload": "poison", "fail": "crash"})
    mill.publish([poison, *good], ids_per_message=17)

    mill.wait_final([*good, poison])

    assert {(job.status, job.attempt) for job in mill.jobs(good)} == {("succeeded", 1)}
    check_invariants(mill.engine, [*good, poison])


def test_oom_in_a_batch_is_bisected_to_the_culprit(mill: Platform, worker: Running) -> None:
    good = mill.submit(*echoes(20))
    (culprit,) = mill.submit({"payload": 0, "fail": "oom"}, max_attempts=1)
    mill.publish([*good[:7], culprit, *good[7:]], ids_per_message=21)

    mill.wait_final([*good, culprit])

    assert {(job.status, job.attempt, job.failures) for job in mill.jobs(good)} == {("succeeded", 1, 0)}
    assert [(job.status, job.error["code"], job.failures) for job in mill.jobs([culprit])] == [("failed", "out_of_memory", 1)]
    check_invariants(mill.engine, [*good, culprit])


def test_hang_in_a_batch_times_out_alone(mill: Platform, worker: Running) -> None:
    good = mill.submit(*echoes(8), timeout_s=1.5)
    (hang,) = mill.submit({"payload": 0, "fail": "hang"}, timeout_s=1.5, max_attempts=1)
    mill.publish([*good[:4], hang, *good[4:]], ids_per_message=9)

    mill.wait_final([*good, hang])

    assert {(job.status, job.attempt, job.failures) for job in mill.jobs(good)} == {("succeeded", 1, 0)}
    assert [(job.status, job.error["code"], job.failures) for job in mill.jobs([hang])] == [("failed", "run_timeout", 1)]
    counted = "SELECT FROM model_days WHERE failures ? 'run_timeout'"
    wait_until(lambda: len(run_sql(mill.engine, counted)) == 1, what="the main process to count the run that its child cannot")
    check_invariants(mill.engine, [*good, hang])


def test_failures_of_their_own_concern_their_own_job(mill: Platform, worker: Running) -> None:
    good = mill.submit(*echoes(5))
    (retried,) = mill.submit({"payload": 0, "fail": "retryable", "fail_attempts": 1})
    (fatal,) = mill.submit({"payload": 0, "fail": "fatal"})
    mill.publish([*good, retried, fatal])

    mill.wait_final([*good, retried, fatal])

    assert [(job.status, job.attempt, job.failures) for job in mill.jobs([*good, retried])] == [("succeeded", 1, 0)] * 5 + [("succeeded", 2, 1)]
    assert [(job.status, job.attempt, job.error["code"]) for job in mill.jobs([fatal])] == [("failed", 1, "invalid_input")]
    check_invariants(mill.engine, [*good, retried, fatal])


def test_cancel_inside_a_running_batch_leaves_its_mates_alone(mill: Platform, worker: Running) -> None:
    ids = mill.give(*echoes(8, delay_ms=1_500))
    mill.wait_running(ids)

    canceled(mill, ids[3])
    assert mill.jobs([ids[3]])[0].status == "canceled", "a cancel is final at once"
    mill.wait_final(ids)

    mates = [job_id for job_id in ids if job_id != ids[3]]
    assert {(job.status, job.attempt) for job in mill.jobs(mates)} == {("succeeded", 1)}
    assert worker.said("killed a child") == worker.said("reason=over_time"), "nobody was killed for it"
    check_invariants(mill.engine, ids)


def test_cancel_of_a_lone_hanging_job_frees_its_child_within_ten_seconds(mill: Platform, worker: Running) -> None:
    hanging = [mill.give({"payload": number, "fail": "hang"}, timeout_s=300.0)[0] for number in range(2)]
    mill.wait_running(hanging)  # both children hang now
    deaf = worker.children

    canceled(mill, *hanging)
    wait_until(lambda: not any(child.is_running() for child in deaf), 10.0, what="both children to be killed")
    after = mill.give(*echoes(2))
    mill.wait_final(after)

    assert {(job.status, job.crashes) for job in mill.jobs(hanging)} == {("canceled", 0)}
    check_invariants(mill.engine, [*hanging, *after])


def test_cancel_of_a_sleeping_job_stops_it_without_a_kill(mill: Platform, worker: Running) -> None:
    children = {child.pid for child in worker.children}
    ids = mill.give({"payload": 0, "delay_ms": 60_000}, timeout_s=300.0)
    mill.wait_running(ids)

    canceled(mill, *ids)
    after = mill.give(*echoes(1))
    mill.wait_final(after, within_s=5.0)

    wait_until(lambda: {child.pid for child in worker.children} == children, 5.0, what="the same children to be there")
    check_invariants(mill.engine, [*ids, *after])
