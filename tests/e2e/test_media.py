"""Images inside requests, through whole processes and the models of the catalogue that ships: hostile ones hurt nobody."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from settings import load_catalogue, load_settings
from tests.fixtures import hostile
from tests.fixtures.samples import picture
from tests.support.platform import PROJECT, Api, Platform, Running
from tests.support.rigs import Rig
from tests.support.waiting import wait_until
from weights.pull import pull_models

MODELS = Path(os.environ.get("MILLPOND_TEST_MODELS_DIR") or PROJECT / ".millpond" / "models")


@pytest.fixture(scope="module")
def platform(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    rig = rigs(str(request.config.option.on))
    catalogue = load_catalogue(load_settings({}))
    pull_models(catalogue, MODELS, report=print, names=list(catalogue.models_of_pool("image")))
    folder = tmp_path_factory.mktemp("platform")
    (folder / "state").mkdir()
    (folder / "state" / "models").symlink_to(MODELS)
    with rig.database() as database_url, rig.broker() as broker_url, Platform(folder, database_url, broker_url, {"MILLPOND_POOLS": "image"}) as platform:
        platform.catalogue = PROJECT / "catalogue.toml"
        platform.pool = "image"
        yield platform


@pytest.fixture(scope="module")
def worker(platform: Platform) -> Iterator[Running]:
    started = platform.start_worker(concurrency=1)
    platform.wait_ready(started, within_s=90.0)
    yield started
    started.end()


@pytest.fixture(scope="module")
def api(platform: Platform) -> Iterator[Api]:
    with platform.api() as api:
        yield api


def _image(content: bytes) -> dict[str, dict[str, str]]:
    return {"image": {"base64": base64.b64encode(content).decode()}}


def test_images_of_one_batch_end_each_by_its_own_result_and_no_child_dies(api: Api, worker: Running) -> None:
    children = {child.pid for child in worker.children}
    wanted = [
        ("image.classification", picture(MODELS, "cat"), "succeeded"),
        ("image.ocr", picture(MODELS, "page"), "succeeded"),
        ("image.moderation", picture(MODELS, "coffee"), "succeeded"),
        *(("image.classification", blob.content, code) for blob, code in hostile.IMAGES if blob.content),
    ]
    jobs = [{"custom_id": str(number), "task": task, "input": _image(content)} for number, (task, content, _) in enumerate(wanted)]
    batch = api.client.post("/v1/batches", json={"jobs": jobs}).json()
    wait_until(lambda: api.client.get(batch["urls"]["self"]).json()["finished_at"] is not None, 90.0, what="all jobs to end")
    lines = map(json.loads, api.client.get(batch["urls"]["results"]).text.splitlines())
    ended = [line for _, line in sorted((int(line["custom_id"]), line) for line in lines)]
    assert [(line["error"] or {"code": line["status"]})["code"] for line in ended] == [code for _, _, code in wanted]
    assert "cat" in ended[0]["output"]["label"]
    assert "histogram of grey values" in ended[1]["output"]["text"]
    assert ended[2]["output"]["label"] == "safe"
    assert {child.pid for child in worker.children} == children


@pytest.mark.parametrize("content", [hostile.TEN_HOURS.content, b"PK\x03\x04" + bytes(100)], ids=["audio", "an archive"])
def test_what_is_no_image_is_refused_at_the_door(api: Api, content: bytes) -> None:
    answer = api.client.post("/v1/jobs", json={"task": "image.ocr", "input": _image(content)})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "unsupported_format"
