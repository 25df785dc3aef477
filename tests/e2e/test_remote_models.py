"""Remote models through the whole platform: API, broker, worker and maintenance, and a real provider that fails first and then works."""

import base64
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.catalogue import parse_catalogue
from domain.task_types import audio_transcription
from tests.chaos.conftest import rig_name
from tests.support.llama_server import llama_server
from tests.support.platform import Platform
from tests.support.providers import asked, refusing, saying
from tests.support.receivers import Manner, Receiver
from tests.support.rigs import Rig
from weights.pull import pull_models
from weights.store import model_files

PROJECT = Path(__file__).resolve().parents[2]
MODEL, KEY = "smollm2-135m", "sk-of-the-whole-path"

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
options = {{ base_url = "{base_url}", model = "m", api = "transcription", key = "own" }}
"""


@dataclass
class Mill:
    """The platform's client, and the provider in front of the real one."""

    client: httpx.Client
    front: Receiver
    address: str

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

    def write(self, prompt: str, **fields: Any) -> httpx.Response:
        body = {"task": "text.generation", "input": {"prompt": prompt, "max_tokens": 12}, **fields}
        return self.client.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}, timeout=40)


@pytest.fixture(scope="module")
def mill(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    rig = rigs(rig_name(request))
    catalogue = parse_catalogue(tomllib.loads((PROJECT / "catalogue.toml").read_text(encoding="utf-8")))
    store = Path(os.environ.get("MILLPOND_TEST_MODELS_DIR") or PROJECT / ".millpond" / "models")
    pull_models(catalogue, store, report=print, names=[MODEL])
    with (
        llama_server(model_files(MODEL, catalogue.models[MODEL], store)["model"], KEY) as address,
        Receiver() as front,
        rig.database() as database_url,
        rig.broker() as broker_url,
        Platform(tmp_path_factory.mktemp("mill"), database_url, broker_url, pool="remote") as platform,
    ):
        platform.environment["MILLPOND_PROVIDER_KEYS"] = json.dumps({"own": KEY})
        platform.catalogue = platform.write_catalogue(CATALOGUE.format(base_url=f"http://127.0.0.1:{front.port}/v1"))
        with platform.maintenance(), platform.worker(), platform.api() as api:
            yield Mill(api.client, front, address)


def test_provider_that_fails_and_then_works_costs_an_attempt_and_not_the_job(mill: Mill) -> None:
    mill.front.manner = mill.passing_on(refusing(500))

    job = mill.write("What is the capital of France?").json()

    assert job["status"] == "succeeded", job
    assert "Paris" in job["output"]["text"]
    attempts = mill.client.get(job["urls"]["attempts"]).json()["data"]
    assert [(attempt["outcome"], attempt["error"] and attempt["error"]["code"]) for attempt in attempts] == [
        ("failed", "provider_unavailable"),
        ("succeeded", None),
    ]
    assert job["usage"]["input_tokens"] > 10
    assert Decimal(job["usage"]["cost_usd"]) == Decimal(job["usage"]["input_tokens"]) / 1_000_000
    assert {"status", "output.delta"} <= {event["type"] for event in mill.client.get(job["urls"]["events"]).json()["data"]}
    assert asked(mill.front.got[-1])["messages"][-1]["content"] == "What is the capital of France?"


def test_recording_in_a_job_reaches_the_provider(mill: Mill) -> None:
    mill.front.manner = saying({"text": "A mill pond.", "language": "english", "duration": 2.3, "segments": []})
    example = audio_transcription.EXAMPLES[0].input

    job = mill.client.post("/v1/jobs", json={"task": "audio.transcription", "input": example}, headers={"Prefer": "wait=20"}, timeout=30).json()

    assert job["status"] == "succeeded", job
    assert job["output"] == {"text": "A mill pond.", "language": "en", "duration_s": 2.3, "segments": []}
    assert base64.b64decode(example["audio"]["base64"]) in mill.front.got[-1].body


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
