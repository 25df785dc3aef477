"""Remote models through the whole platform: API, broker, worker and maintenance, and a real provider that fails first and then works."""

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.catalogue import parse_catalogue
from domain.job import FINAL
from tests.conformance.harness import wrong_words
from tests.fixtures import hostile
from tests.fixtures.samples import READING_S, SAID, reading
from tests.support.llama_server import llama_server
from tests.support.platform import Platform
from tests.support.providers import asked, refusing, saying
from tests.support.receivers import Manner, Receiver
from tests.support.rigs import Rig, rig_of
from tests.support.transcription_server import TranscriptionServer
from tests.support.waiting import wait_until
from tests.support.weights import FOLDER
from weights.pull import pull_models
from weights.store import model_files

PROJECT = Path(__file__).resolve().parents[2]
MODEL, EARS, KEY = "smollm2-135m", "whisper-base", "sk-of-the-whole-path"

TRACE = "ab" * 16
CATALOGUE = """
[pools.remote]
concurrency = 1
[tasks."text.generation"]
contract = "domain.task_types.text_generation"
default_model = "far"
[models.far]
task = "text.generation"
pool = "remote"
backend = "workers.backends.openai_remote:OpenaiRemote"
version = "1"
max_batch_size = 4
price.per_million_input_tokens_usd = "1"
options = {{ base_url = "{base_url}", model = "m", api = "chat", key = "own", system = "You are a helpful AI assistant." }}
[models.locked]
task = "text.generation"
pool = "remote"
backend = "workers.backends.openai_remote:OpenaiRemote"
version = "1"
options = {{ base_url = "{base_url}", model = "m", api = "chat", key = "nobodys" }}
[tasks."audio.transcription"]
contract = "domain.task_types.audio_transcription"
default_model = "ears"
[models.ears]
task = "audio.transcription"
pool = "remote"
backend = "workers.backends.openai_remote:OpenaiRemote"
version = "1"
options = {{ base_url = "{hears_at}", model = "whisper-1", api = "transcription", key = "own" }}
"""


@dataclass
class Mill:
    """The platform's client, the provider in front of the real one, and the one that hears."""

    client: httpx.Client
    front: Receiver
    address: str
    ears: TranscriptionServer

    def passing_on(self, *first: Manner) -> Manner:
        """Answers the first requests as told, and lets the real server answer the others."""
        left = list(first)

        def manner(connection: Any, request: Any) -> bool:
            if left:
                return left.pop(0)(connection, request)
            answer = httpx.post(
                f"{self.address}/v1/chat/completions", content=request.body, headers={"authorization": request.headers["authorization"]}, timeout=30
            )
            kind = answer.headers["content-type"]
            return saying(answer.content, answer.status_code, **{"content-type": kind})(connection, request)

        return manner

    def write(self, prompt: str, *, traceparent: str | None = None, **fields: Any) -> httpx.Response:
        body = {"task": "text.generation", "input": {"prompt": prompt, "max_tokens": 12}, **fields}
        headers = {"Prefer": "wait=30", **({"traceparent": traceparent} if traceparent else {})}
        return self.client.post("/v1/jobs", json=body, headers=headers, timeout=40)

    def hear(self, recording: bytes, wait_s: int, **fields: Any) -> dict[str, Any]:
        file = self.client.post("/v1/files", files={"file": ("reading.wav", recording, "audio/wav")}).json()
        body = {"task": "audio.transcription", "input": {"audio": {"file_id": file["id"]}}, **fields}
        answer = self.client.post("/v1/jobs", json=body, headers={"Prefer": f"wait={wait_s}"}, timeout=wait_s + 10)
        assert answer.is_success, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def attempts(self, job: dict[str, Any]) -> list[tuple[str, str | None]]:
        found = self.client.get(job["urls"]["attempts"]).json()["data"]
        return [(attempt["outcome"], attempt["error"] and attempt["error"]["code"]) for attempt in found]


@pytest.fixture(scope="module")
def mill(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    rig = rigs(rig_of(request.node))
    catalogue = parse_catalogue(tomllib.loads((PROJECT / "catalogue.toml").read_text(encoding="utf-8")))
    pull_models(catalogue, FOLDER, report=print, names=[MODEL, EARS])
    ears = TranscriptionServer(model_files(EARS, catalogue.models[EARS], FOLDER), tmp_path_factory.mktemp("ears"))
    with (
        llama_server(model_files(MODEL, catalogue.models[MODEL], FOLDER)["model"], KEY) as address,
        Receiver() as front,
        rig.database() as database_url,
        rig.broker() as broker_url,
        Platform(tmp_path_factory.mktemp("mill"), database_url, broker_url, pool="remote") as platform,
    ):
        platform.environment["MILLPOND_PROVIDER_KEYS"] = json.dumps({"own": KEY})
        platform.catalogue = platform.write_catalogue(CATALOGUE.format(base_url=f"http://127.0.0.1:{front.port}/v1", hears_at=ears.base_url))
        with platform.maintenance(), platform.worker(), platform.api() as api:
            yield Mill(api.client, front, address, ears)


@pytest.fixture(scope="module")
def ears(mill: Mill) -> Iterator[TranscriptionServer]:
    """The server that hears, once it answers; no test before needs it, and the platform starts sooner without."""
    with mill.ears as ears:
        ears.ready()
        yield ears


def test_provider_that_fails_and_then_works_costs_an_attempt_and_not_the_job(mill: Mill) -> None:
    mill.front.manner = mill.passing_on(refusing(500))

    job = mill.write("What is the capital of France?", traceparent=f"00-{TRACE}-{'cd' * 8}-01").json()

    assert job["status"] == "succeeded", job
    assert [request.headers["traceparent"].split("-")[1] for request in mill.front.got] == [TRACE, TRACE]
    assert "Paris" in job["output"]["text"]
    assert mill.attempts(job) == [("failed", "provider_unavailable"), ("succeeded", None)]
    assert job["usage"]["input_tokens"] > 10
    assert Decimal(job["usage"]["cost_usd"]) == Decimal(job["usage"]["input_tokens"]) / 1_000_000
    assert {"status", "output.delta"} <= {event["type"] for event in mill.client.get(job["urls"]["events"]).json()["data"]}
    assert asked(mill.front.got[-1])["messages"][-1]["content"] == "What is the capital of France?"


def test_recording_is_written_down_by_a_server_that_is_killed_at_work_and_comes_back(mill: Mill, ears: TranscriptionServer) -> None:
    idle_s = ears.computed_s()
    job = mill.hear(reading(FOLDER), 0, max_attempts=10)
    wait_until(lambda: ears.computed_s() > idle_s + 0.3, 30.0, what="the server to be at work")
    ears.process.kill()
    ears.start()

    def final() -> dict[str, Any]:
        seen: dict[str, Any] = mill.client.get(job["urls"]["self"], headers={"Prefer": "wait=30"}, timeout=40).json()
        return seen if seen["status"] in FINAL else {}

    job = wait_until(final, 90.0, what="the job to end")
    assert job["status"] == "succeeded", job
    assert wrong_words(SAID, job["output"]["text"]) <= 0.05
    assert (job["output"]["language"], job["output"]["duration_s"]) == ("en", pytest.approx(READING_S, abs=0.1))
    first, *_, last = mill.attempts(job)
    assert (first, last) == (("failed", "provider_unavailable"), ("succeeded", None))


def test_recording_that_the_server_fails_on_fails_the_job_with_its_reason(mill: Mill, ears: TranscriptionServer) -> None:
    ears.ready()
    job = mill.hear(hostile.BROKEN_RECORDING, 30, max_attempts=2)
    assert (job["status"], job["error"]["code"], job["error"]["message"]) == ("failed", "provider_unavailable", "the provider answered 500")
    assert mill.attempts(job) == [("failed", "provider_unavailable")] * 2


def test_model_without_its_providers_key_keeps_no_other_from_running(mill: Mill) -> None:
    refused = mill.write("Hi", model="locked")
    assert (refused.status_code, refused.json()["code"]) == (503, "model_not_installed")
    assert "'nobodys'" in refused.json()["detail"]
    models = {model["id"]: model for model in mill.client.get("/v1/models").json()["data"]}
    assert {name: (model["installed"], model["health"]["status"]) for name, model in models.items()} == {
        "ears": (True, "ready"),
        "far": (True, "ready"),
        "locked": (False, "not_installed"),
    }
