"""A provider goes down under a running platform and comes back: API, maintenance and two workers as processes of their own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from domain.ids import Prefix, decode
from tests.support.jobs import assert_promises, look_at, run_sql
from tests.support.platform import Api, Platform
from tests.support.providers import chat, refusing
from tests.support.receivers import Receiver
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos

JOBS = 24
_CATALOGUE = """
pools.remote.concurrency = 1
[tasks."text.generation"]
contract = "domain.task_types.text_generation"
default_model = "first"
"""
_MODEL = """
[models.{name}]
task = "text.generation"
pool = "remote"
backend = "workers.backends.openai_remote:OpenaiRemote"
version = "1"
max_batch_size = 4
breaker = {{ failures = 5, open_s = 2 }}
options = {{ base_url = "http://127.0.0.1:{port}/v1", model = "m", api = "chat", stream = false, total_timeout_s = 5 }}
"""


@pytest.fixture
def providers() -> Iterator[tuple[Receiver, Receiver]]:
    with Receiver(chat("first")) as first, Receiver(chat("second")) as second:
        yield first, second


def write(api: Api, number: int) -> dict[str, Any]:
    body = {"task": "text.generation", "input": {"prompt": f"Hi {number}"}}
    answer = api.client.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"}, timeout=30.0)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


def health(api: Api) -> str:
    status: str = api.client.get("/v1/models/first").json()["health"]["status"]
    return status


def test_provider_that_goes_down_and_comes_back_costs_no_job(bare: Platform, providers: tuple[Receiver, Receiver]) -> None:
    first, second = providers
    models = [_MODEL.format(name=name, port=each.port) for name, each in (("first", first), ("second", second))]
    bare.catalogue, bare.pool = bare.write_catalogue(_CATALOGUE + "".join(models)), "remote"
    first.manner = refusing(500)
    names = ("north", "south")
    with bare.maintenance(), bare.api() as api:
        for worker in [bare.start_worker(name, concurrency=1) for name in names]:
            bare.wait_ready(worker)
        with ThreadPoolExecutor(10) as pool:  # the API holds twelve waits
            jobs = list(pool.map(lambda number: write(api, number), range(JOBS)))

        assert {(job["status"], job["model"], job["output"]["text"]) for job in jobs} == {("succeeded", "second", "second")}
        codes = [move["code"] for job in jobs for move in job["routing"]["failovers"]]
        assert set(codes) <= {"provider_unavailable", "breaker_open"}
        assert codes.count("provider_unavailable") >= 5
        wait_until(lambda: health(api) == "out_of_order", 5.0)
        asked = len(first.got)
        assert asked <= codes.count("provider_unavailable") + 2  # a probe or two at most, since it opened

        first.manner = chat("first")
        wait_until(lambda: write(api, 0)["status"] == "succeeded" and health(api) == "ready", 20.0)
        assert len(first.got) > asked
        ids = [UUID(str(decode(Prefix.JOB, job["id"]))) for job in jobs]
        for kept in look_at(bare.engine, ids).values():
            assert_promises(kept)
        tried_by = run_sql(bare.engine, "SELECT DISTINCT split_part(worker, ':', 1) AS name FROM job_attempts")
        assert {row.name for row in tried_by} == set(names)
