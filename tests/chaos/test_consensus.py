"""Consensus on whole processes: a child of the pool is killed mid-way, the join's worker is away, a parent is canceled while its children run."""

import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.platform import Api, Platform, Running, echo_catalogue
from tests.support.rigs import Rig, rig_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos

CATALOGUE = (
    echo_catalogue(backend="workers.backends.echo:Echo")
    + """
[models.liar]
task = "debug.echo"
pool = "debug"
backend = "tests.support.liar:Liar"
version = "1"
options = { says = "a lie" }
[models.twin]
task = "debug.echo"
pool = "debug"
backend = "workers.backends.echo:Echo"
version = "1"
[pools.join]
[tasks."consensus.join"]
contract = "domain.task_types.consensus_join"
default_model = "consensus"
internal = true
[models.consensus]
task = "consensus.join"
pool = "join"
backend = "workers.backends.join:Join"
version = "1"
"""
)
MODELS = list(tomllib.loads(CATALOGUE)["models"])[:3]


@pytest.fixture(scope="module")
def platform(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    rig = rigs(rig_of(request.node))
    with (
        rig.database() as database_url,
        rig.broker() as broker_url,
        Platform(tmp_path_factory.mktemp("platform"), database_url, broker_url) as platform,
    ):
        platform.catalogue = platform.write_catalogue(CATALOGUE)
        with platform.maintenance():
            yield platform


@pytest.fixture(scope="module")
def api(platform: Platform) -> Iterator[Api]:
    with platform.api() as api:
        yield api


@pytest.fixture(scope="module")
def worker(platform: Platform) -> Iterator[Running]:
    with platform.worker() as worker:
        yield worker


def submit(api: Api, **value: Any) -> Any:
    answer = api.post({"payload": "the truth", **value}, consensus={"models": MODELS, "min_agreement": 0.6})
    assert answer.status_code == 202, answer.text
    return answer.json()


def look(api: Api, job: Any, wait_s: int = 0) -> Any:
    return api.client.get(f"/v1/jobs/{job['id']}", headers={"Prefer": f"wait={wait_s}"} if wait_s else {}).json()


def statuses(api: Api, job: Any) -> list[str]:
    return [child["status"] for child in look(api, job)["children"]]


def test_a_parent_ends_though_a_child_was_killed_and_the_joins_worker_was_away(platform: Platform, api: Api, worker: Running) -> None:
    job = submit(api, delay_ms=1_000)
    wait_until(lambda: "running" in statuses(api, job), what="a child to run")
    worker.children[0].kill()
    wait_until(lambda: statuses(api, job) == ["succeeded"] * 3, 30.0, what="the children to end")
    assert look(api, job)["status"] == "queued", "nobody joins yet"

    platform.start("worker", "--pool", "join", "--concurrency", "1", "--name", "join", name="join")
    wait_until(lambda: look(api, job)["finished_at"] is not None, 45.0, what="the join")

    done = look(api, job)
    assert (done["status"], done["output"]) == ("succeeded", {"payload": "the truth"})
    assert [(dissent["model"], dissent["output"]) for dissent in done["consensus"]["dissents"]] == [("liar", {"payload": "a lie"})]


def test_cancel_of_a_parent_frees_the_children_that_run(api: Api, worker: Running) -> None:
    job = submit(api, delay_ms=600_000)
    wait_until(lambda: statuses(api, job).count("running") == 2, 30.0, what="two children to run")

    canceled = api.client.post(f"/v1/jobs/{job['id']}/cancel").json()

    assert [child["status"] for child in canceled["children"]] == ["canceled"] * 3
    after = api.client.post("/v1/jobs", json={"task": "debug.echo", "input": {"payload": 2}}, headers={"Prefer": "wait=14"}).json()
    assert after["status"] == "succeeded", "the worker is free again"
