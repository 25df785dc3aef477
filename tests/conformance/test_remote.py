"""The remote backend against a real OpenAI-compatible server: llama.cpp's own, with the catalogue's language model behind it."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.catalogue import Catalogue
from domain.failures import InferenceError
from domain.task_types import text_embedding
from domain.task_types.text_generation import Input
from tests.conformance.harness import Heard, run_of
from tests.support.llama_server import llama_server
from weights.store import model_files
from workers.backends.base import Inference
from workers.backends.openai_remote import OpenaiRemote

MODEL = "smollm2-135m"
KEY = secrets.token_urlsafe(16)


@pytest.fixture(scope="module")
def address(catalogue: Catalogue, store_dir: Path) -> Iterator[str]:
    with llama_server(model_files(MODEL, catalogue.models[MODEL], store_dir)["model"], KEY) as address:
        yield address


@pytest.fixture
def remote(address: str) -> Iterator[OpenaiRemote]:
    backend = OpenaiRemote()
    backend.take_key(KEY)
    backend.load({"base_url": f"{address}/v1", "model": MODEL, "api": "chat", "key": "own", "system": "You are a helpful AI assistant."}, {})
    yield backend
    backend.unload()


def write(prompt: str, max_tokens: int, **more: Any) -> Input:
    return Input.model_validate({"prompt": prompt, "max_tokens": max_tokens, **more})


def test_real_server_answers_in_pieces_and_counts_tokens(remote: OpenaiRemote) -> None:
    heard = Heard()
    (result,) = remote.infer([write("What is the capital of France?", 12)], run_of(1, heard=heard))
    assert isinstance(result, Inference), result
    text = result.output.model_dump()["text"]
    assert "Paris" in text
    assert len(heard.text[0]) > 1
    assert "".join(heard.text[0]) == text
    assert result.usage.input_tokens > 10
    assert 1 < result.usage.output_tokens <= 12


def test_real_server_keeps_a_schema_and_refuses_what_is_too_long(remote: OpenaiRemote) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
    kept, long = remote.infer([write("Is it fine?", 24, json_schema=schema), write("mill " * 3_000, 4)], run_of(2))
    assert isinstance(kept, Inference), kept
    assert type(json.loads(kept.output.model_dump()["text"])["ok"]) is bool
    assert isinstance(long, InferenceError)
    assert long.code == "context_too_long"


def test_real_server_refuses_a_wrong_key(address: str) -> None:
    backend = OpenaiRemote()
    backend.take_key("wrong")
    backend.load({"base_url": f"{address}/v1", "model": MODEL, "api": "chat", "key": "own"}, {})
    (result,) = backend.infer([write("Hi", 1)], run_of(1))
    backend.unload()
    assert isinstance(result, InferenceError)
    assert result.code == "provider_refused"


def test_real_server_gives_vectors_in_the_order_of_the_texts(catalogue: Catalogue, store_dir: Path) -> None:
    backend = OpenaiRemote()
    backend.take_key(KEY)
    with llama_server(model_files(MODEL, catalogue.models[MODEL], store_dir)["model"], KEY, vectors=True) as address:
        backend.load({"base_url": f"{address}/v1", "model": MODEL, "api": "embeddings", "key": "own"}, {})
        (both,) = backend.infer([text_embedding.Input(texts=["a mill pond", "the race"])], run_of(1))
        (alone,) = backend.infer([text_embedding.Input(texts=["the race"])], run_of(1))
        backend.unload()
    assert isinstance(both, Inference), both
    assert isinstance(alone, Inference), alone
    (pond, race), (again,) = (result.output.model_dump()["embeddings"] for result in (both, alone))
    assert len(pond) == both.output.model_dump()["dimensions"] == 576
    assert race == pytest.approx(again, abs=1e-3)
    assert pond != pytest.approx(again, abs=1e-2)
    assert both.usage.input_tokens > alone.usage.input_tokens > 0
