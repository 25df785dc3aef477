"""Providers that fail, real ones on loopback ports: jobs end on their fallbacks, and two workers share one breaker.

A worker here is a child's context with a run folder of its own, as its main process makes it; both are in the test's process, which spares
seconds of starting. ``tests/chaos/test_providers.py`` has the same with processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from domain.catalogue import Catalogue, parse_catalogue
from domain.ids import Prefix, decode
from models.queries.breakers import all_breakers
from models.transactions import make_engine, statement
from storage.objects import StoreLocation
from tests.support.api import Api, make_api
from tests.support.jobs import assert_promises, look, run_sql
from tests.support.providers import chat, refusing, saying
from tests.support.receivers import Manner, Receiver, dripping, hanging
from workers.board import Board
from workers.breakers import Breakers
from workers.child import BOARD_FILE, PLACES_PER_SLOT, _context, run_dispatch
from workers.config import WorkerConfig

FAILURES = 3
OPEN_S = 60.0
REMOTE = {
    "task": "text.generation",
    "backend": "workers.backends.openai_remote:OpenaiRemote",
    "version": "1",
    "max_batch_size": 8,
    "price": {"per_job_usd": "0.01"},
    "breaker": {"failures": FAILURES, "open_s": OPEN_S},
}


def catalogue_of(first: Receiver, second: Receiver, **more: Any) -> Catalogue:
    def remote(provider: Receiver, pool: str) -> dict[str, Any]:
        options = {"base_url": f"http://127.0.0.1:{provider.port}/v1", "model": "m", "api": "chat", "total_timeout_s": 1.5, "stream": False}
        return {**REMOTE, "pool": pool, "options": options}

    task = {"contract": "domain.task_types.text_generation", "default_model": "first", **more}
    models = {"first": remote(first, "one"), "second": remote(second, "two")}
    return parse_catalogue({"pools": {"one": {}, "two": {}}, "tasks": {"text.generation": task}, "models": models})


@dataclass
class Worker:
    """One child; what its main process would do for it is done by the test."""

    name: str
    folder: Path
    database_url: str
    catalogue: Catalogue
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.folder.mkdir()
        files = StoreLocation((self.folder / "files").as_uri())
        config = WorkerConfig(self.name, "one", 1, self.database_url, "amqp://127.0.0.1:9//", self.catalogue, self.folder, self.folder, files)
        config.save()
        self._board = Board.create(self.folder / BOARD_FILE, PLACES_PER_SLOT)

    def take(self, model: str, *ids: UUID) -> int:
        """One message."""
        number = next(self._numbers)
        self._board.place(0).clear(number)
        return run_dispatch(str(self.folder), 0, f"{self.name}:{number}", model, ids, False, False, number)

    def close(self) -> None:
        context = _context(str(self.folder))
        for backend in context._loaded.values():
            backend.unload()
        if "_publisher" in vars(context):
            context._publisher.stop()
        context.runs.flush()
        context.engine.dispose()


@dataclass
class Mill:
    """Two providers, two workers, an API, one database."""

    first: Receiver
    second: Receiver
    api: Api
    workers: Sequence[Worker]

    def submit(self, **fields: Any) -> UUID:
        answer = self.api.post("/v1/jobs", {"task": "text.generation", "input": {"prompt": "Hi"}, **fields})
        assert answer.status_code == 202, answer.text
        job_id: Any = decode(Prefix.JOB, answer.json["id"])
        return UUID(str(job_id))

    def state(self, model: str = "first") -> str:
        with statement(self.api.engine) as connection:
            breaker = all_breakers(connection)[0].get(model)
        return "none" if breaker is None else breaker.state.value

    def wait_for_probe(self) -> None:
        """Time goes by, until the breaker may be tried."""
        run_sql(self.api.engine, "UPDATE model_breakers SET probe_at = now() WHERE model = 'first' AND state = 'open'")

    def shown(self, job_id: UUID) -> Any:
        (job,) = [job for job in self.api.get("/v1/jobs").json["data"] if decode(Prefix.JOB, job["id"]) == job_id]
        return job


@pytest.fixture
def mill(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Mill]:
    """``request.param``: what the task's entry says besides."""
    engine: Engine = make_engine(database_url, pool_size=4)
    with Receiver(chat("first")) as first, Receiver(chat("second")) as second:
        catalogue = catalogue_of(first, second, **getattr(request, "param", {}))
        workers = [Worker(name, tmp_path / name, database_url, catalogue) for name in ("north", "south")]
        yield Mill(first, second, make_api(engine, catalogue=catalogue), workers)
        for worker in workers:
            worker.close()
        _context.cache_clear()
        engine.dispose()


FAULTS: dict[str, tuple[Manner, str]] = {
    "time-out": (hanging, "provider_unavailable"),
    "429": (refusing(429, "slow down", **{"retry-after": "60"}), "provider_rate_limited"),
    "500": (refusing(500), "provider_unavailable"),
    "garbage": (saying(b"<html>"), "provider_bad_answer"),
    "drip": (dripping(b" ", first=b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"), "provider_unavailable"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_provider_that_fails_is_replaced_in_flight_and_taken_back_when_it_works(mill: Mill, fault: str) -> None:
    manner, code = FAULTS[fault]
    north, south = mill.workers
    mill.first.manner = manner

    # each job ends on its fallback; the breaker opens at its threshold, whoever's failures they are
    jobs = [mill.submit() for _ in range(FAILURES)]
    for number, job_id in enumerate(jobs):
        mill.workers[number % 2].take("first", job_id)
        assert mill.state() == ("open" if number + 1 == FAILURES else "closed")
    north.take("second", *jobs)
    for job_id in jobs:
        kept = look(mill.api.engine, job_id)
        assert (kept.row.status, kept.row.model, kept.outputs[0].output["text"]) == ("succeeded", "second", "second")
        assert [(attempt.model, attempt.outcome, (attempt.error or {}).get("code")) for attempt in kept.attempts] == [
            ("first", "failed", code),
            ("second", "succeeded", None),
        ]
        assert [(move["from"], move["to"], move["code"]) for move in mill.shown(job_id)["routing"]["failovers"]] == [("first", "second", code)]
        assert_promises(kept)

    health = mill.api.get("/v1/models/first").json["health"]
    assert (health["status"], health["breaker"]["state"], health["breaker"]["code"]) == ("out_of_order", "open", code)

    # what waits for it goes on untried and unspent, in either worker
    asked, late = len(mill.first.got), [mill.submit(), mill.submit()]
    assert [worker.take("first", job_id) for worker, job_id in zip(mill.workers, late, strict=True)] == [0, 0]
    assert len(mill.first.got) == asked
    for job_id in late:
        row = look(mill.api.engine, job_id).row
        assert (row.status, row.model, row.pool, row.attempt, row.failures) == ("queued", "second", "two", 0, 0)
        assert mill.shown(job_id)["routing"]["failovers"][0]["code"] == "breaker_open"

    # one probe that fails opens it again; one that succeeds closes it for both
    mill.wait_for_probe()
    north.take("first", mill.submit(), mill.submit())
    assert (mill.state(), len(mill.first.got)) == ("open", asked + 1)
    mill.first.manner = chat("first")
    mill.wait_for_probe()
    probe, other = mill.submit(), mill.submit()
    south.take("first", probe, other)
    assert (look(mill.api.engine, probe).row.status, look(mill.api.engine, other).row.model) == ("succeeded", "second")
    assert mill.state() == "none"
    again = mill.submit()
    north.take("first", again)
    assert look(mill.api.engine, again).row.model == "first"
    assert look(mill.api.engine, again).row.status == "succeeded"


def test_job_with_no_other_model_waits_for_the_breaker_and_spends_nothing(mill: Mill) -> None:
    north, south = mill.workers
    mill.first.manner = refusing(500)
    failed = [mill.submit(model="first", max_attempts=1) for _ in range(FAILURES)]
    north.take("first", *failed)  # together: one note of three
    assert {look(mill.api.engine, job_id).row.status for job_id in failed} == {"failed"}
    waiting = mill.submit(model="first")
    assert south.take("first", waiting) == 0
    kept = look(mill.api.engine, waiting)
    assert (kept.row.status, kept.row.model, kept.row.attempt, kept.row.failures, kept.row.published_at) == ("queued", "first", 0, 0, None)
    ahead_s = run_sql(mill.api.engine, "SELECT extract(epoch FROM available_at - now()) AS s FROM jobs WHERE id = :id", id=waiting)[0].s
    assert OPEN_S - 10 < ahead_s < OPEN_S * 1.5
    assert_promises(kept)
    mill.first.manner = chat("first")
    mill.wait_for_probe()
    run_sql(mill.api.engine, "UPDATE jobs SET available_at = now() WHERE id = :id", id=waiting)
    assert south.take("first", waiting) == 1
    assert look(mill.api.engine, waiting).row.status == "succeeded"
    assert mill.state() == "none"


@pytest.mark.parametrize("mill", [{"interchangeable": False}], indirect=True)
def test_job_whose_models_are_not_interchangeable_outlasts_its_models_fault_and_its_breaker(mill: Mill) -> None:
    north, south = mill.workers
    mill.first.manner = refusing(500)
    job_id = mill.submit(max_attempts=FAILURES + 1)
    for failures in range(1, FAILURES + 1):
        north.take("first", job_id)
        row = look(mill.api.engine, job_id).row
        assert (row.status, row.model, row.pool, row.failures) == ("queued", "first", "one", failures)
        run_sql(mill.api.engine, "UPDATE jobs SET available_at = now() WHERE id = :id", id=job_id)
    late = mill.submit()
    assert (mill.state(), south.take("first", late)) == ("open", 0)
    assert (look(mill.api.engine, late).row.status, look(mill.api.engine, late).row.model) == ("queued", "first")
    mill.first.manner = chat("first")
    mill.wait_for_probe()
    run_sql(mill.api.engine, "UPDATE jobs SET available_at = now()")
    assert [north.take("first", job_id), south.take("first", late)] == [1, 1]
    assert {(look(mill.api.engine, each).row.status, look(mill.api.engine, each).row.model) for each in (job_id, late)} == {("succeeded", "first")}
    assert mill.second.got == []


@pytest.mark.parametrize("under_way_s", [0, 40])
def test_jobs_behind_a_probe_wait_longer_the_longer_it_takes(mill: Mill, under_way_s: int) -> None:
    breakers = Breakers(mill.api.engine, mill.api.catalogue.models)
    breakers.note("first", ["provider_unavailable"] * FAILURES, doubted=False)
    mill.wait_for_probe()
    assert breakers.may_probe("first", probe_s=100.0)
    run_sql(mill.api.engine, "UPDATE model_breakers SET probe_at = probe_at - make_interval(secs => :s)", s=under_way_s)  # as time goes by
    waiting = mill.submit(model="first")
    assert breakers.divert("first", [waiting], probe_s=100.0) == []
    ahead_s = run_sql(mill.api.engine, "SELECT extract(epoch FROM available_at - now()) AS s FROM jobs WHERE id = :id", id=waiting)[0].s
    assert max(1.5, under_way_s - 5) < ahead_s < max(5, under_way_s * 1.5)


def test_job_whose_next_model_is_out_of_order_goes_back_to_the_one_that_failed_once(mill: Mill) -> None:
    north, south = mill.workers
    mill.second.manner = refusing(500)
    south.take("second", *[mill.submit(model="second", max_attempts=1) for _ in range(FAILURES)])
    job_id = mill.submit(route={"fallbacks": ["second"]}, max_attempts=3)
    mill.first.manner = refusing(429, "slow down")
    for attempt in (1, 2):
        north.take("first", job_id)
        assert look(mill.api.engine, job_id).row.model == "second"
        south.take("second", job_id)
        row = look(mill.api.engine, job_id).row
        assert (row.status, row.model, row.pool, row.attempt, row.failures) == ("queued", "first", "one", attempt, attempt)
        assert north.take("first", job_id) == 0  # not before it is due
        run_sql(mill.api.engine, "UPDATE jobs SET available_at = now() WHERE id = :id", id=job_id)
    mill.first.manner = chat("first")
    assert north.take("first", job_id) == 1
    kept = look(mill.api.engine, job_id)
    assert (kept.row.status, kept.row.model, kept.row.failures) == ("succeeded", "first", 2)
    assert_promises(kept)


def test_bad_inputs_open_no_breaker_and_only_the_models_own_failures_move_a_job(mill: Mill) -> None:
    mill.first.manner = refusing(400, "content_policy", code="content_policy_violation")
    jobs = [mill.submit() for _ in range(FAILURES + 1)]
    mill.workers[0].take("first", *jobs)
    assert {(look(mill.api.engine, job_id).row.status, look(mill.api.engine, job_id).row.model) for job_id in jobs} == {("failed", "first")}
    assert mill.state() == "none"


def test_input_that_a_model_does_not_take_goes_on_with_the_next_and_is_not_held_against_it(mill: Mill) -> None:
    north, south = mill.workers
    mill.first.manner = refusing(400, "max_tokens is too large")
    jobs = [mill.submit() for _ in range(FAILURES + 1)]
    north.take("first", *jobs)
    south.take("second", *jobs)
    assert {(look(mill.api.engine, job_id).row.status, look(mill.api.engine, job_id).row.model) for job_id in jobs} == {("succeeded", "second")}
    assert [(move["from"], move["code"]) for move in mill.shown(jobs[0])["routing"]["failovers"]] == [("first", "unsupported_input")]
    assert mill.state() == "none"
    mill.second.manner = mill.first.manner
    alone = mill.submit()
    north.take("first", alone)
    south.take("second", alone)
    assert (look(mill.api.engine, alone).row.status, look(mill.api.engine, alone).row.error["code"]) == ("failed", "unsupported_input")


def test_probe_whose_input_was_at_fault_leaves_the_probe_to_the_next(mill: Mill) -> None:
    north, south = mill.workers
    mill.first.manner = refusing(500)
    north.take("first", *[mill.submit() for _ in range(FAILURES)])
    mill.wait_for_probe()
    mill.first.manner = refusing(400, "content_policy", code="content_policy_violation")
    bad = mill.submit()
    north.take("first", bad)
    assert (look(mill.api.engine, bad).row.status, mill.state()) == ("failed", "half_open")
    mill.first.manner = chat("first")
    good = mill.submit()
    south.take("first", good)
    assert (look(mill.api.engine, good).row.status, mill.state()) == ("succeeded", "none")


def test_breaker_that_closes_while_jobs_are_sent_on_makes_them_due_at_once(mill: Mill) -> None:
    mill.first.manner = refusing(500)
    north, south = mill.workers
    north.take("first", *[mill.submit() for _ in range(FAILURES)])
    job_id = mill.submit(model="first")
    run_sql(mill.api.engine, "UPDATE jobs SET published_at = now() WHERE id = :id", id=job_id)
    breakers = _context(str(south.folder)).breakers
    assert breakers.may_probe("first", probe_s=1.0) is False
    run_sql(mill.api.engine, "DELETE FROM model_breakers")
    assert breakers.divert("first", [job_id], probe_s=1.0) == []  # nobody else is to be told
    row = look(mill.api.engine, job_id).row
    assert (row.model, row.published_at, row.available_at <= row.deadline_at) == ("first", None, True)
    mill.first.manner = chat("first")
    assert south.take("first", job_id) == 1


def test_limit_of_cost_holds_over_all_attempts(mill: Mill) -> None:
    job_id = mill.submit(route={"max_cost_usd": "0.015"})
    run_sql(mill.api.engine, "UPDATE jobs SET cost_usd = 0.006 WHERE id = :id", id=job_id)  # as a provider's own count of a failed attempt would
    mill.first.manner = refusing(500)
    mill.workers[0].take("first", job_id)
    row = look(mill.api.engine, job_id).row
    assert (row.status, row.error["code"], row.error["retryable"]) == ("failed", "cost_limit", False)
    assert "provider_unavailable" in row.error["message"]
