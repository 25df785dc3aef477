from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from models.queries.queues import beat, forget, forget_silent, pool_workers
from models.transactions import statement
from tests.support.api import Api, api_on
from tests.support.jobs import claim, new_job, run_sql, submit, submit_many, succeed


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url) as api:
        yield api


def beating(engine: Engine, name: str = "w1", **fields: object) -> None:
    values: dict[str, object] = {"pool": "debug", "host": "h", "pid": 1, "concurrency": 2, "ready": True, "busy": 0, "finish_per_s": 0.0}
    with statement(engine) as connection:
        beat(connection, name=name, **{**values, **fields})  # type: ignore[arg-type]


def test_queues_empty_system_shows_every_pool_and_lane_at_zero(api: Api) -> None:
    queues = api.get("/v1/queues").json["data"]
    assert [queue["pool"] for queue in queues] == list(api.catalogue.pools)
    for queue in queues:
        assert [lane["priority"] for lane in queue["lanes"]] == ["interactive", "standard", "flex"]
        assert [lane["queue"] for lane in queue["lanes"]] == [f"{queue['pool']}.{lane['priority']}" for lane in queue["lanes"]]
        assert {queue[name] for name in ("queued", "running", "oldest_queued_s", "arrival_per_s", "finish_per_s", "workers", "desired_workers")} == {0}


def test_queue_counts_by_lane_what_waits_and_runs(api: Api) -> None:
    engine = api.engine
    submit_many(engine, 3, priority="interactive")
    ids = submit_many(engine, 2)
    submit(engine, new_job(not_before=datetime.now(UTC) + timedelta(hours=1)))
    claim(engine, ids[0])
    succeed(engine, claim(engine, *submit_many(engine, 1)))
    run_sql(engine, "UPDATE jobs SET available_at = now() - interval '90 seconds' WHERE id = :id", id=ids[1])
    beating(engine, "a", concurrency=2, busy=1, finish_per_s=1.5)
    beating(engine, "b", concurrency=4, ready=False)
    queue = api.get("/v1/queues/debug").json
    assert (queue["queued"], queue["delayed"], queue["running"]) == (5, 1, 1)
    assert 90 <= queue["oldest_queued_s"] < 100
    assert queue["arrival_per_s"] == pytest.approx(7 / 60)
    assert (queue["workers"], queue["ready_workers"], queue["concurrency"], queue["busy"], queue["finish_per_s"]) == (2, 1, 6, 1, 1.5)
    lanes = {lane["priority"]: lane for lane in queue["lanes"]}
    assert (lanes["interactive"]["queued"], lanes["standard"]["queued"], lanes["standard"]["running"], lanes["flex"]["queued"]) == (3, 2, 1, 0)
    assert lanes["flex"]["oldest_queued_s"] == 0
    assert api.get("/v1/queues/text").json["queued"] == 0


def test_queue_arrivals_are_those_of_the_last_minute(api: Api) -> None:
    old, _ = submit_many(api.engine, 2)
    run_sql(api.engine, "UPDATE jobs SET created_at = now() - interval '61 seconds' WHERE id = :id", id=old)
    assert api.get("/v1/queues/debug").json["arrival_per_s"] == pytest.approx(1 / 60)


def test_queue_is_counted_once_a_second_at_most(api: Api) -> None:
    assert api.get("/v1/queues/debug").json["queued"] == 0
    submit_many(api.engine, 1)
    assert api.get("/v1/queues/debug").json["queued"] == 0


def test_queue_unknown_pool_is_404(api: Api) -> None:
    assert api.get("/v1/queues/nope").json["code"] == "not_found"


def test_beat_again_replaces_and_forget_removes(engine: Engine) -> None:
    beating(engine, busy=1)
    beating(engine, busy=2, finish_per_s=3.0)
    with statement(engine) as connection:
        workers = pool_workers(connection)["debug"]
    assert (workers.workers, workers.busy, workers.finish_per_s) == (1, 2, 3.0)
    with statement(engine) as connection:
        forget(connection, name="w1")
    with statement(engine) as connection:
        assert pool_workers(connection) == {}


def test_forget_silent_removes_those_alone_that_say_nothing(engine: Engine) -> None:
    beating(engine, "dead")
    beating(engine, "alive")
    run_sql(engine, "UPDATE worker_processes SET seen_at = now() - interval '1 hour' WHERE name = 'dead'")
    with statement(engine) as connection:
        assert forget_silent(connection, silent_s=600) == 1
    assert [row.name for row in run_sql(engine, "SELECT name FROM worker_processes")] == ["alive"]
