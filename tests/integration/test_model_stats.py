"""Counts of runs: what is written of them, by the minute and by the day, and what is read from it."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.failures import Failure
from domain.histogram import bucket_of
from domain.job import Outcome, Status
from domain.run_counts import RunCounts
from models.identity import new_id
from models.queries.finish import Ending, Return
from models.queries.model_stats import LiveStats, days_of, live_facts
from models.transactions import make_engine, statement
from tests.support.jobs import TENANT, claim, lapse_lease, run_sql, submit_many
from tests.support.waiting import wait_until
from tests.support.worker_parts import dispatch_of
from workers.board import Board, Progress
from workers.dispatch import Kill
from workers.maintenance.pruner import Pruner
from workers.maintenance.reaper import Reaper
from workers.run_counter import RunCounter
from workers.settlement import Clerk

OTHER = UUID(int=9)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=8)
    yield engine
    engine.dispose()


def succeeded(**fields: object) -> Ending:
    return Ending(id=new_id(), fence=1, status=Status.SUCCEEDED, **{"input_tokens": 3, "output_tokens": 5, "cost_usd": Decimal("0.25"), **fields})  # type: ignore[arg-type]


def failed(code: str) -> Ending:
    return Ending(id=new_id(), fence=1, status=Status.FAILED, failure=Failure(code, "no", retryable=False))


def returned(code: str | None) -> Return:
    return Return(id=new_id(), fence=1, outcome=Outcome.FAILED, failure=None if code is None else Failure(code, "no", retryable=True))


def live(engine: Engine) -> dict[str, LiveStats]:
    with statement(engine) as connection:
        return live_facts(connection)


def today(engine: Engine, tenant_id: UUID = TENANT, model: str = "echo") -> RunCounts:
    with statement(engine) as connection:
        return days_of(connection, tenant_id=tenant_id, model=model, days=1)[datetime.now(UTC).date()].counts


def test_counts_of_two_processes_are_added_up_for_all_tenants_and_for_each(engine: Engine) -> None:
    for run_ms in (10.0, 1_000.0):
        runs = RunCounter(engine)
        runs.count("echo", [(TENANT, succeeded()), (TENANT, failed("invalid_input")), (OTHER, returned("model_error"))], run_ms=run_ms)
        runs.count("other", [(TENANT, succeeded())], run_ms=5.0)
        runs.flush()
        runs.flush()  # has nothing more to say
    facts = live(engine)
    assert (facts["echo"].runs, facts["echo"].succeeded, facts["echo"].failures) == (6, 2, 2)
    assert facts["echo"].error_rate == pytest.approx(2 / 6)
    assert facts["echo"].p50_ms == pytest.approx(10, rel=0.05)
    assert facts["echo"].p95_ms == pytest.approx(1_000, rel=0.05)
    assert facts["other"].runs == 2
    counts = today(engine)
    assert counts == RunCounts(
        runs=4,
        jobs=4,
        failures=counts.failures,
        run_ms=counts.run_ms,
        input_tokens=6,
        output_tokens=10,
        cost_usd=Decimal("0.5"),
    )
    assert counts.failures == {"invalid_input": 2}
    assert counts.run_ms == {bucket_of(10.0): 1, bucket_of(1_000.0): 1}
    assert (today(engine, OTHER).runs, today(engine, OTHER).jobs, today(engine, OTHER).failures) == (2, 0, {"model_error": 2})


def test_what_was_no_run_is_not_counted(engine: Engine) -> None:
    runs = RunCounter(engine)
    canceled = Ending(id=new_id(), fence=1, status=Status.CANCELED, failure=Failure("canceled_by_user", "no", retryable=False))
    runs.count("echo", [(TENANT, returned(None)), (TENANT, canceled)], run_ms=1.0)
    runs.flush()
    assert live(engine) == {}
    assert run_sql(engine, "SELECT count(*) AS n FROM model_days")[0].n == 0


def test_counts_that_cannot_be_written_are_lost_whole_and_cost_nothing_else(engine: Engine) -> None:
    away = RunCounter(make_engine("postgresql://nobody@127.0.0.1:9/none", pool_size=1))
    away.count("echo", [(TENANT, succeeded())], run_ms=1.0)
    away.flush()
    runs = RunCounter(engine)
    runs.count("echo", [(TENANT, succeeded())], run_ms=1.0)
    run_sql(engine, "ALTER TABLE model_days RENAME TO elsewhere")
    runs.flush()
    run_sql(engine, "ALTER TABLE elsewhere RENAME TO model_days")
    assert live(engine) == {}
    runs.count("echo", [(TENANT, succeeded())], run_ms=1.0)
    runs.flush()
    assert (live(engine)["echo"].runs, today(engine).runs) == (1, 1)


def test_thread_flushes_what_nobody_else_does_and_many_runs_at_once(engine: Engine) -> None:
    """An idle process keeps nothing for ever; a busy one writes by the second, not by the run."""
    runs = RunCounter(engine)
    for _ in range(1_000):
        runs.count("echo", [(TENANT, succeeded())], run_ms=1.0)
    runs.start()
    wait_until(lambda: live(engine).get("echo") is not None, what="the counts to be written")
    assert live(engine)["echo"].runs == 1_000
    runs.count("echo", [(TENANT, succeeded())], run_ms=1.0)
    wait_until(lambda: live(engine)["echo"].runs == 1_001, what="the next counts to be written")


def test_processes_that_flush_at_once_lose_nothing(engine: Engine) -> None:
    models = [f"model-{number}" for number in range(6)]
    counters = [RunCounter(engine) for _ in range(6)]
    for place, runs in enumerate(counters):
        for model in models[place:] + models[:place]:
            runs.count(model, [(tenant, succeeded()) for tenant in ((TENANT, OTHER) if place % 2 else (OTHER, TENANT))], run_ms=2.0)
    threads = [threading.Thread(target=runs.flush) for runs in counters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {model: stats.runs for model, stats in live(engine).items()} == dict.fromkeys(models, 12)


def test_window_forgets_what_is_older_and_the_pruner_removes_it(engine: Engine) -> None:
    runs = RunCounter(engine)
    runs.count("echo", [(TENANT, succeeded())], run_ms=1.0)
    runs.flush()
    run_sql(engine, "UPDATE model_minutes SET minute = minute - interval '6 minutes'")
    assert live(engine) == {}
    assert Pruner(engine, every_s=60.0).run_once().stats == 0
    run_sql(engine, "UPDATE model_minutes SET minute = minute - interval '1 hour'")
    run_sql(engine, "UPDATE model_days SET day = day - 402")
    assert Pruner(engine, every_s=60.0).run_once().stats == 2


def test_runs_that_ended_their_process_are_counted_by_whoever_notices(engine: Engine, tmp_path: object) -> None:
    runs = RunCounter(engine)
    place = Board.create(tmp_path / "board", 1).place(0)  # type: ignore[operator]
    (job_id,) = submit_many(engine, 1)
    claim(engine, job_id, owner="w:1")
    clerk = Clerk(engine, runs)
    clerk.start()
    clerk.sentence(dispatch_of(place, Progress.RUNNING, kill=Kill.OVER_TIME), job_id)
    clerk.stop()
    runs.flush()
    assert live(engine)["echo"].failures == 1
    assert today(engine).failures == {"run_timeout": 1}

    alone, *together = submit_many(engine, 3)
    claim(engine, alone, owner="dead:1")
    claim(engine, *together, owner="dead:2")
    lapse_lease(engine, alone, *together)
    Reaper(engine, grace_s=5.0, every_s=1.0).run_once()
    assert today(engine).failures == {"run_timeout": 1, "worker_lost": 1}, "jobs that ran in company say nothing of their model"
