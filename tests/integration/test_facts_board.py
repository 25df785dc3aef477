"""What an API process knows of models, from what workers and jobs have written."""

from datetime import timedelta
from uuid import UUID

import pytest
import structlog
from sqlalchemy import Engine

from api.facts_board import GOOD_RUNS, FactsBoard
from domain.job import Status
from domain.routing.breaker import Breaker, BreakerSpec, after_failures
from domain.routing.facts import COLD
from models.qualities import Qualities
from models.queries.breakers import change_breaker
from models.queries.finish import Ending
from models.queries.queues import beat
from models.transactions import DatabaseAway, make_engine, statement, unit_of_work
from tests.support.echoes import echo_catalogue_of
from tests.support.jobs import FAILURE, claim, run_sql, score, submit_many
from workers.failover import failed
from workers.run_counter import RunCounter

CATALOGUE = echo_catalogue_of({"a": {"pool": "one"}, "b": {"pool": "two"}})


def break_model(engine: Engine, model: str) -> None:
    with unit_of_work(engine) as connection:
        change_breaker(
            connection, model=model, change=lambda breaker, now: after_failures(breaker, BreakerSpec(), count=5, code="provider_unavailable", now=now)
        )


def test_board_knows_backlog_workers_runs_and_breakers(engine: Engine) -> None:
    now = 100.0
    board = FactsBoard(engine, CATALOGUE, clock=lambda: now)
    assert board.facts("a") == COLD
    with statement(engine) as connection:
        beat(connection, name="w", pool="one", host="h", pid=1, concurrency=4, ready=True, busy=0, finish_per_s=0.0)
    jobs = claim(engine, *submit_many(engine, 5, model="a", pool="one"), model="a")
    submit_many(engine, 8, model="a", pool="one")
    (later,) = submit_many(engine, 1, model="a", pool="one")
    run_sql(engine, "UPDATE jobs SET available_at = now() + interval '1 h' WHERE id = :id", id=later)
    runs = RunCounter(engine)
    runs.count("a", [(job.tenant_id, Ending(id=job.id, fence=job.fence, status=Status.SUCCEEDED)) for job in jobs[:4]], run_ms=40.0)
    runs.count("a", [(jobs[4].tenant_id, failed(jobs[4], FAILURE))], run_ms=1.0)
    runs.flush()
    break_model(engine, "b")

    board.look()

    known = board.facts("a")
    assert (known.queued_per_worker, known.workers, known.breaker_open) == (2.0, 1, False)
    assert known.latency_ms == pytest.approx(40, rel=0.05)
    assert known.error_rate == pytest.approx(1 / (5 + GOOD_RUNS))
    assert (board.facts("b").breaker_open, board.facts("b").workers) == (True, 0)
    board.routed("a")
    assert board.facts("a").queued_per_worker == 2.25
    now += 0.02  # four children end a job every 40 ms each
    assert board.facts("a").queued_per_worker == pytest.approx(1.75, rel=0.05)
    now += 10.0
    assert board.facts("a").queued_per_worker == 0.0
    run_sql(engine, "UPDATE model_breakers SET probe_at = now()")
    board.look()
    assert (board.facts("a").queued_per_worker, board.facts("b").breaker_open) == (2.0, False)  # to be tried again


def test_qualities_are_the_catalogues_until_feedback_is_read_and_stay_as_they_were_while_the_database_is_away(engine: Engine) -> None:
    now = 0.0
    catalogue = echo_catalogue_of({"a": {"quality": 0.9}, "b": {}})
    away = make_engine("postgresql://nobody@127.0.0.1:9/none", pool_size=1)
    qualities = Qualities(away, catalogue, every_s=30.0, clock=lambda: now)
    with structlog.testing.capture_logs() as told:
        for at in (0.0, 0.0, 29.0, 30.0):
            now = at
            assert qualities() == {"a": 0.9, "b": None}
    assert len(told) == 1, "it is said once that the database is away"
    qualities._engine = engine
    score(engine, "a", UUID(int=1), scores=10)
    assert qualities()["a"] == 0.9, "nor is a look that failed repeated sooner"
    now = 60.0
    assert qualities() == {"a": pytest.approx(0.6), "b": None}
    score(engine, "b", UUID(int=1), scores=10)
    now = 89.0
    assert qualities()["b"] is None, "a look every half minute is enough"
    now, qualities._engine = 90.0, away
    assert qualities() == {"a": pytest.approx(0.6), "b": None}
    now, qualities._engine = 120.0, engine
    assert qualities()["b"] == pytest.approx(1 / 3)
    away.dispose()


def test_board_keeps_what_it_knew_while_the_database_is_away(engine: Engine) -> None:
    away = make_engine("postgresql://nobody@127.0.0.1:9/none", pool_size=1)
    board = FactsBoard(engine, CATALOGUE)
    break_model(engine, "a")
    board.look()
    board._engine = away
    with pytest.raises(DatabaseAway):
        board.look()
    assert board.facts("a").breaker_open
    away.dispose()


def test_breaker_is_changed_by_one_at_a_time_and_forgotten_when_nothing_is_left_to_say(engine: Engine) -> None:
    for _ in range(3):
        break_model(engine, "a")
    seen: list[Breaker | None] = []
    with unit_of_work(engine) as connection:
        change_breaker(connection, model="a", change=lambda breaker, _: seen.append(breaker))
    assert seen[0] is not None
    assert (seen[0].failures_in_row, seen[0].openings) == (5, 1)  # the later ones found it open
    assert seen[0].probe_at is not None
    assert seen[0].opened_at is not None
    assert seen[0].probe_at - seen[0].opened_at == timedelta(seconds=30)
    assert run_sql(engine, "SELECT * FROM model_breakers") == []
