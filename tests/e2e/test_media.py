"""Images inside requests, and speech given as a file, through whole processes and the models that ship: hostile content hurts nobody."""

import base64
import json
from collections.abc import Callable, Iterator

import pytest

from settings import load_catalogue, load_settings
from tests.conformance.harness import blob_of
from tests.fixtures import hostile
from tests.fixtures.samples import picture
from tests.support.platform import PROJECT, Api, Platform, Running
from tests.support.rigs import Rig, rig_of
from tests.support.waiting import wait_until
from tests.support.weights import FOLDER
from weights.pull import pull_models
from workers.sounds import read_sound

INLINE_BYTES = 700_000  # what fits into a line of a batch as base64


@pytest.fixture(scope="module")
def platform(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    rig = rigs(rig_of(request.node))
    catalogue = load_catalogue(load_settings({}))
    pull_models(catalogue, FOLDER, report=print, names=list(catalogue.models_of_pool("image")))
    folder = tmp_path_factory.mktemp("platform")
    (folder / "state").mkdir()
    (folder / "state" / "models").symlink_to(FOLDER)
    with rig.database() as database_url, rig.broker() as broker_url, Platform(folder, database_url, broker_url, {"MILLPOND_POOLS": "image"}) as platform:
        voice = 'task = "audio.speech"\npool = '
        shipped = (PROJECT / "catalogue.toml").read_text(encoding="utf-8")
        platform.catalogue = platform.write_catalogue(shipped.replace(f'{voice}"audio"', f'{voice}"image"'))  # one worker is enough
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
        ("image.classification", picture(FOLDER, "cat"), "succeeded"),
        ("image.ocr", picture(FOLDER, "page"), "succeeded"),
        ("image.moderation", picture(FOLDER, "coffee"), "succeeded"),
        *(("image.classification", blob.content, code) for blob, code in hostile.IMAGES if 0 < len(blob.content) <= INLINE_BYTES),
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


def test_speech_is_a_file_that_can_be_fetched_and_sent_on(api: Api, worker: Running) -> None:
    job = api.client.post("/v1/jobs", json={"task": "audio.speech", "input": {"text": "It was the best of times."}}, headers={"Prefer": "wait=14"}).json()
    assert job["status"] == "succeeded", job
    audio = job["output"]["audio"]
    answer = api.client.get(f"/v1/files/{audio['file_id']}/content")
    assert answer.headers["content-type"] == audio["content_type"] == "audio/wav"
    assert read_sound(blob_of(answer.content), max_s=60.0).duration_s == pytest.approx(audio["duration_s"])
    wrong_kind = api.client.post("/v1/jobs", json={"task": "image.ocr", "input": {"image": {"file_id": audio["file_id"]}}})
    assert wrong_kind.json()["errors"][0]["code"] == "unsupported_format"
