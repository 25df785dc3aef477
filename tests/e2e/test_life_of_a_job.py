"""The whole life of jobs over HTTP, through a real queue and a real worker."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chaos.steps import accepted
from tests.support.platform import Api, Platform, check_invariants, echo_catalogue
from tests.support.rigs import Rig, rig_of
from tests.support.waiting import wait_until

CANDIDATE = """
[models.echo-next]
task = "debug.echo"
pool = "debug"
backend = "workers.backends.echo:Echo"
version = "2"
[tasks."debug.echo".weights]
echo = 1
[tasks."debug.echo".shadow]
model = "echo-next"
share = 1.0
"""


@pytest.fixture(scope="module")
def platform(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    rig = rigs(rig_of(request.node))
    with (
        rig.database() as database_url,
        rig.broker() as broker_url,
        Platform(tmp_path_factory.mktemp("platform"), database_url, broker_url) as platform,
    ):
        platform.catalogue = platform.write_catalogue(f"{echo_catalogue()}{CANDIDATE}")
        with platform.maintenance(), platform.worker():
            yield platform


@pytest.fixture(scope="module")
def api(platform: Platform) -> Iterator[Api]:
    with platform.api() as api:
        yield api


def test_job_that_is_waited_for_is_answered_with_its_output(api: Api) -> None:
    answer = api.client.post("/v1/jobs", json={"task": "debug.echo", "input": {"payload": {"a": [1, None]}}}, headers={"Prefer": "wait=20"})

    assert answer.status_code == 200
    job = answer.json()
    assert (job["status"], job["output"]) == ("succeeded", {"payload": {"a": [1, None]}})


def test_job_that_has_run_is_in_the_figures_of_its_model(api: Api) -> None:
    """Children write them by themselves a second later, though nothing else comes."""
    answer = api.client.post("/v1/jobs", json={"task": "debug.echo", "input": {"payload": 0, "delay_ms": 50}}, headers={"Prefer": "wait=20"}).json()
    wait_until(lambda: api.client.get("/v1/models/echo").json()["latency"] is not None, what="the latency to be known")
    assert api.client.post(f"/v1/jobs/{answer['id']}/feedback", json={"correct_output": {"payload": 1}}).status_code == 201

    total = api.client.get("/v1/models/echo/report").json()["total"]

    assert total["jobs"] >= 1
    assert total["latency"]["run_p95_ms"] >= 45
    assert total["quality"] == {"mean_score": 0.0, "scores": 1}


def test_job_that_has_run_was_run_by_the_candidate_too_and_nobody_saw_it(api: Api) -> None:
    def shadow() -> Any:
        return api.client.get("/v1/models/echo-next/report").json()["total"]["shadow"]

    api.client.post("/v1/jobs", json={"task": "debug.echo", "input": {"payload": 0}}, headers={"Prefer": "wait=20"})
    wait_until(lambda: shadow() is not None, what="an answer in the shadow to be compared")

    assert (shadow()["agreement"], shadow()["failed"]) == (1.0, 0)
    assert {job["model"] for job in api.client.get("/v1/jobs").json()["data"]} == {"echo"}


def test_job_that_is_not_waited_for_is_found_again(api: Api) -> None:
    answer = api.post({"payload": 1, "delay_ms": 300})
    assert answer.status_code == 202

    job = api.client.get(answer.headers["Location"], headers={"Prefer": "wait=20"}).json()

    assert (job["status"], job["output"]) == ("succeeded", {"payload": 1})


def test_job_that_fails_once_is_tried_again(api: Api) -> None:
    answer = api.post({"payload": 1, "fail": "retryable", "fail_attempts": 1})

    job = api.client.get(answer.headers["Location"], headers={"Prefer": "wait=14"}).json()
    attempts = api.client.get(f"{answer.headers['Location']}/attempts").json()["data"]

    assert job["status"] == "succeeded"
    assert [attempt["outcome"] for attempt in attempts] == ["failed", "succeeded"]


def test_running_job_that_is_canceled_frees_its_child(api: Api) -> None:
    answer = api.post({"payload": 1, "delay_ms": 600_000}, timeout_s=600)
    where = answer.headers["Location"]
    wait_until(lambda: api.client.get(where).json()["status"] == "running", what="the job to run")

    assert api.client.post(f"{where}/cancel").status_code == 200
    assert api.client.get(where).json()["status"] == "canceled"
    for number in range(4):  # more than there are children
        after = api.client.post("/v1/jobs", json={"task": "debug.echo", "input": {"payload": number}}, headers={"Prefer": "wait=14"})
        assert after.status_code == 200


def test_jobs_submitted_at_once_are_all_answered_each_with_its_own(api: Api, platform: Platform) -> None:
    ids = accepted(api, 100)

    platform.wait_final(ids)
    check_invariants(platform.engine, ids)
