"""The remote backend against a real transcription server that others wrote, with the catalogue's Whisper behind it, and against one that cannot hear."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domain.catalogue import Catalogue
from domain.failures import InferenceError
from domain.task_types.audio_transcription import Input
from tests.conformance.harness import blob_of, run_of, wrong_words
from tests.fixtures.hostile import BROKEN_RECORDING
from tests.fixtures.samples import READING_S, SAID, reading
from tests.support.llama_server import llama_server
from tests.support.transcription_server import TranscriptionServer
from weights.store import model_files
from workers.backends.base import Inference
from workers.backends.openai_remote import OpenaiRemote

KEY = "sk-of-the-listener"


@pytest.fixture(scope="module")
def server(catalogue: Catalogue, store_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TranscriptionServer]:
    files = model_files("whisper-base", catalogue.models["whisper-base"], store_dir)
    with TranscriptionServer(files, tmp_path_factory.mktemp("whisper")) as server:
        server.ready()
        yield server


@contextmanager
def remote(base_url: str, key: str = KEY, **options: Any) -> Iterator[OpenaiRemote]:
    backend = OpenaiRemote()
    backend.take_key(key)
    backend.load({"base_url": base_url, "model": "whisper-1", "api": "transcription", "key": "own", **options}, {})
    yield backend
    backend.unload()


def transcribe(backend: OpenaiRemote, *recordings: bytes, language: str | None = None, **more: Any) -> Sequence[Inference | InferenceError]:
    value = Input.model_validate({"audio": {"file_id": "file_x"}, "language": language})
    return backend.infer([value] * len(recordings), run_of(len(recordings), blobs=[{"audio": blob_of(content)} for content in recordings], **more))


def test_real_server_writes_down_a_reading_whatever_its_mate_brings(server: TranscriptionServer, store_dir: Path) -> None:
    with remote(server.base_url) as backend:
        result, broken = transcribe(backend, reading(store_dir), BROKEN_RECORDING)

    assert isinstance(result, Inference), result
    output = result.output.model_dump()
    assert wrong_words(SAID, output["text"]) <= 0.05
    assert output["language"] == "en"
    assert output["duration_s"] == pytest.approx(READING_S, abs=0.1)
    assert output["text"] == " ".join(segment["text"] for segment in output["segments"])
    times = [time for segment in output["segments"] for time in (segment["start_s"], segment["end_s"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= READING_S + 0.1
    assert isinstance(broken, InferenceError)
    assert (broken.code, broken.message) == ("provider_unavailable", "the provider answered 500"), (
        "it tells a broken recording from a fault of its own by no word"
    )


def test_real_server_that_gives_text_alone_leaves_the_rest_unknown(server: TranscriptionServer, store_dir: Path) -> None:
    with remote(server.base_url, transcript="json") as backend:
        (result,) = transcribe(backend, reading(store_dir), language="en")
    assert isinstance(result, Inference), result
    output = result.output.model_dump()
    assert wrong_words(SAID, output.pop("text")) <= 0.05
    assert output == {"language": "en", "duration_s": None, "segments": []}


def test_real_server_that_lacks_the_model_refuses_and_the_user_is_not_blamed(catalogue: Catalogue, store_dir: Path, tmp_path: Path) -> None:
    files = model_files("whisper-base", catalogue.models["whisper-base"], store_dir)
    with TranscriptionServer(files, tmp_path, name="another") as other, remote(other.base_url) as backend, remote(f"{other.base_url}/v2") as lost:
        other.ready()
        results = [*transcribe(backend, reading(store_dir, first_s=1.0)), *transcribe(lost, reading(store_dir, first_s=1.0))]
    assert [isinstance(result, InferenceError) and (result.code, result.retryable, result.message[:25]) for result in results] == [
        ("provider_refused", False, "the provider answered 400"),
        ("provider_refused", False, "the provider answered 404"),
    ]


def test_real_server_refuses_a_wrong_key_and_a_model_without_ears(catalogue: Catalogue, store_dir: Path) -> None:
    model = model_files("smollm2-135m", catalogue.models["smollm2-135m"], store_dir)["model"]
    with llama_server(model, KEY) as address, remote(f"{address}/v1", "wrong") as locked, remote(f"{address}/v1") as deaf:
        results = [*transcribe(locked, reading(store_dir, first_s=1.0)), *transcribe(deaf, reading(store_dir, first_s=1.0))]
    assert [isinstance(result, InferenceError) and (result.code, result.retryable, result.message[:25]) for result in results] == [
        ("provider_refused", False, "the provider answered 401"),
        ("provider_refused", False, "the provider answered 501"),
    ]


def test_real_server_that_is_killed_in_mid_call_is_unavailable(server: TranscriptionServer, store_dir: Path) -> None:
    idle_s = server.computed_s()

    def kill_it_at_work(_job: int) -> bool:
        if server.process.exit_code is None and server.computed_s() > idle_s + 0.3:
            server.process.kill()
        return False

    with remote(server.base_url) as backend:
        (cut,) = transcribe(backend, reading(store_dir), should_stop=kill_it_at_work)
        (away,) = transcribe(backend, reading(store_dir, first_s=1.0))

    assert [isinstance(result, InferenceError) and (result.code, result.retryable) for result in (cut, away)] == [("provider_unavailable", True)] * 2
    assert isinstance(cut, InferenceError)
    assert "the connection to the provider failed" in cut.message
    server.start()
    server.ready()
