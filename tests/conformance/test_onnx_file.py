"""Real models by a spec of the catalogue alone give what the backends that were written for them give."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domain.catalogue import Catalogue
from domain.contracts import Blob
from tests.conformance.harness import Loaded, load, run_of
from workers.backends.base import Inference

TEXTS = ["A mill pond holds water back.", "It feeds the wheel evenly.", "x", "word " * 400]
MINILM = {"input": {"kind": "tokens", "field": "texts", "max_tokens": 256}, "output": {"kind": "vector", "pool": "mean"}}
OPEN_NSFW = {
    "input": {"kind": "image", "height": 224, "width": 224, "fit": "squeeze", "crop": 0.875, "channels": "bgr", "layout": "nhwc", "scale": 1.0,
              "mean": [104.0, 117.0, 123.0]},
    "output": {"kind": "labels", "labels": ["safe", "nsfw"], "activation": "none"},
}  # fmt: skip


def by_spec(catalogue: Catalogue, name: str, options: Mapping[str, Any], store_dir: Path) -> Loaded:
    entry = catalogue.models[name].model_copy(update={"backend": "workers.backends.onnx_file:OnnxFile", "options": options})
    return load(catalogue.model_copy(update={"models": {**catalogue.models, name: entry}}), name, store_dir)


def test_minilm_by_spec_gives_the_same_vectors(catalogue: Catalogue, store_dir: Path) -> None:
    one, other = load(catalogue, "minilm-l6", store_dir), by_spec(catalogue, "minilm-l6", MINILM, store_dir)
    expected, found = one.one({"texts": TEXTS}), other.one({"texts": TEXTS})
    assert found.usage == expected.usage
    for left, right in zip(expected.output.model_dump()["embeddings"], found.output.model_dump()["embeddings"], strict=True):
        assert sum(a * b for a, b in zip(left, right, strict=True)) > 0.9999


def test_open_nsfw_by_spec_gives_the_same_scores(catalogue: Catalogue, store_dir: Path) -> None:
    one, other = load(catalogue, "open-nsfw", store_dir), by_spec(catalogue, "open-nsfw", OPEN_NSFW, store_dir)
    shown = one.contract.examples[0].input
    blob = Blob(base64.b64decode(shown["image"]["base64"]), shown["image"]["content_type"])
    ((expected,), (found,)) = (model.backend.infer([model.read(shown)], replace(run_of(1), blobs=[{"image": blob}])) for model in (one, other))
    assert isinstance(expected, Inference)
    assert isinstance(found, Inference)
    assert found.output.model_dump()["scores"] == pytest.approx(expected.output.model_dump()["scores"], abs=0.05)  # it is not turned through JPEG here
