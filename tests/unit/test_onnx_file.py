"""The backend of ``.onnx`` files, on small models made here, each entered into a catalogue of its own as a user would enter it."""

import hashlib
import io
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from domain.catalogue import Catalogue, parse_catalogue
from domain.contracts import Blob, load_contract
from domain.errors import ConfigurationError
from domain.failures import CanceledByUser, InferenceError
from domain.usage import Usage
from tests.conformance.harness import Loaded, load, run_of
from tests.support.worker_parts import worker_config
from weights.pull import pull_models
from workers.backends.base import Inference
from workers.backends.onnx_file import OnnxFile, Options
from workers.board import Board
from workers.child import BOARD_FILE, PLACES_PER_SLOT, Context
from workers.outputs import activated, check_labels, labelled

Enter = Callable[..., Loaded]
WORDS = {"[UNK]": 0, "good": 1, "bad": 2, "pond": 3, "warm": 4}


@pytest.fixture
def enter(tmp_path: Path) -> Enter:
    """Writes a model's files, enters them into a catalogue, pulls them into a store and loads the model."""

    def loaded(contract: str, files: Mapping[str, bytes], options: Mapping[str, Any]) -> Loaded:
        catalogue = entered(tmp_path, contract, files, options)
        return load(catalogue, "tiny", tmp_path / "store")

    return loaded


def entered(folder: Path, contract: str, files: Mapping[str, bytes], options: Mapping[str, Any]) -> Catalogue:
    entries = {}
    for name, content in files.items():
        (folder / f"{name}.bin").write_bytes(content)
        entries[name] = {"source": f"file:{folder / f'{name}.bin'}", "sha256": hashlib.sha256(content).hexdigest()}
    model = {"task": "tiny.task", "pool": "debug", "backend": "workers.backends.onnx_file:OnnxFile", "version": "1", "options": options, "files": entries}
    task = {"contract": contract, "default_model": "tiny"}
    catalogue = parse_catalogue({"pools": {"debug": {}}, "tasks": {"tiny.task": task}, "models": {"tiny": model}})
    pull_models(catalogue, folder / "store", report=print)
    return catalogue


def graph(nodes: Sequence[Any], inputs: Sequence[Any], output_shape: Sequence[Any], **constants: NDArray[Any]) -> bytes:
    """A model whose nodes end in ``y``."""
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_model(helper.make_graph(nodes, "tiny", inputs, [output], held), opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def mean_colour(batch: int | str, layout: str = "nchw") -> bytes:
    """Ten times the mean of each channel."""
    shape, axes = ([batch, 3, 4, 4], [2, 3]) if layout == "nchw" else ([batch, 4, 4, 3], [1, 2])
    nodes = [helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0), helper.make_node("Mul", ["mean", "ten"], ["y"])]
    return graph(nodes, [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [batch, 3], ten=np.array(10, np.float32))


def word_vectors(table: NDArray[np.float32], *, pooled: bool) -> bytes:
    """The vector of each token; ``pooled``: their mean, by the mask."""
    tokens = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"]) for name in ("input_ids", "attention_mask")]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["vectors"])]
    if not pooled:
        return graph([*nodes, helper.make_node("Identity", ["vectors"], ["y"])], tokens[:1], ["n", "length", table.shape[1]], table=table)
    nodes += [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["vectors", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["y"], keepdims=0),
    ]
    return graph(nodes, tokens, ["n", table.shape[1]], table=table, last=np.array([2]), middle=np.array([1]))


def rows_together(batch: int | str) -> bytes:
    """Each number plus how many rows the run has."""
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
        helper.make_node("Cast", ["rows"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "count"], ["y"]),
    ]
    return graph(nodes, [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, "size"])], [batch, "size"])


def tokenizer() -> bytes:
    made = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return bytes(made.to_str().encode())


def png(colour: str, size: tuple[int, int] = (9, 5), *, edges: str | None = None) -> Blob:
    """One colour; ``edges``: another at the left and the right."""
    image = Image.new("RGB", size, edges or colour)
    image.paste(Image.new("RGB", (size[1], size[1]), colour), ((size[0] - size[1]) // 2, 0))
    if edges is None:
        image.paste(colour, (0, 0, *size))
    written = io.BytesIO()
    image.save(written, "PNG")
    return Blob(written.getvalue(), "image/png")


def seen(model: Loaded, *blobs: Blob, **fields: Any) -> list[Any]:
    values = [model.read({"image": {"file_id": "file_x"}, **fields})] * len(blobs)
    return list(model.backend.infer(values, replace(run_of(len(blobs)), blobs=[{"image": blob} for blob in blobs])))


COLOURS = {"kind": "labels", "labels": ["red", "green", "blue"]}
PIXELS = {"kind": "image", "height": 4, "width": 4}


# --- images ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_images_are_labelled_together_and_a_bad_one_fails_alone(enter: Enter, batch: int | str) -> None:
    model = enter("domain.task_types.image_classification", {"model": mean_colour(batch)}, {"input": PIXELS, "output": COLOURS})

    *good, bad = seen(model, png("red"), png("lime"), png("blue"), Blob(b"\x89PNG\r\n\x1a\nno", "image/png"), top_k=2)

    assert [result.output.label for result in good] == ["red", "green", "blue"]
    assert good[0].output.score == pytest.approx(1 / (1 + 2 * np.exp(-10)))
    assert [candidate.label for candidate in good[1].output.labels] == ["green", "red"]
    assert bad.code == "invalid_image"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "red"),
        ({"channels": "bgr"}, "blue"),
        ({"layout": "nhwc"}, "red"),
        ({"mean": [2.0, 0.0, 0.0]}, "green"),
        ({"mean": [0.0, -0.1, 0.0], "std": [100.0, 1.0, 1.0]}, "green"),
    ],
)
def test_image_is_prepared_as_its_spec_says(enter: Enter, spec: Mapping[str, Any], expected: str) -> None:
    files = {"model": mean_colour("n", str(spec.get("layout", "nchw")))}
    model = enter("domain.task_types.image_classification", files, {"input": {**PIXELS, **spec}, "output": COLOURS})
    assert seen(model, png("red"))[0].output.label == expected


@pytest.mark.parametrize(("fit", "blue_share"), [({}, 0.0), ({"fit": "squeeze"}, 0.5), ({"fit": "squeeze", "crop": 0.5}, 0.0)])
def test_image_is_cut_or_squeezed(enter: Enter, fit: Mapping[str, Any], blue_share: float) -> None:
    output = {"kind": "labels", "labels": ["red", "green", "blue"], "activation": "none"}
    model = enter("domain.task_types.image_classification", {"model": mean_colour("n")}, {"input": {**PIXELS, "scale": 1 / 2550, **fit}, "output": output})
    (result,) = seen(model, png("red", (16, 8), edges="blue"))
    scores = {candidate.label: candidate.score for candidate in result.output.labels}
    assert scores["blue"] == pytest.approx(blue_share, abs=0.1)


def test_thousand_labels_fit_a_contract_that_lists_a_hundred() -> None:
    contract = load_contract("domain.task_types.image_classification")
    names = [f"class {number}" for number in range(1_000)]
    check_labels(contract, names)
    output = labelled(
        contract, names, activated(np.arange(1_000.0), "softmax"), contract.input.model_validate({"image": {"file_id": "file_x"}, "top_k": 3})
    ).model_dump()
    assert [candidate["label"] for candidate in output["labels"]] == ["class 999", "class 998", "class 997"]


def test_entry_in_contributing_is_one_that_works() -> None:
    text = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    entry = tomllib.loads(text.partition("### A model in a file")[2].partition("```toml\n")[2].partition("```")[0])
    task = {"contract": "domain.task_types.image_classification", "default_model": "flowers"}
    catalogue = parse_catalogue({"pools": {"image": {}}, "tasks": {"image.classification": task}, **entry})
    assert Options.model_validate(catalogue.models["flowers"].options).input.kind == "image"


def test_moderation_needs_its_own_labels(enter: Enter) -> None:
    files, task = {"model": mean_colour("n")}, "domain.task_types.image_moderation"
    with pytest.raises(ConfigurationError, match="'red' does not fit the task"):
        enter(task, files, {"input": PIXELS, "output": COLOURS})
    with pytest.raises(ConfigurationError, match="2 labels"):
        enter(task, files, {"input": PIXELS, "output": {"kind": "labels", "labels": ["safe", "nsfw"]}})


# --- texts -----------------------------------------------------------------------------------------------------------------


def test_text_is_labelled_by_its_tokens(enter: Enter) -> None:
    table = np.zeros((len(WORDS), 3), np.float32)
    table[WORDS["good"], 0], table[WORDS["bad"], 2], table[:, 1] = 9, 9, 0.1
    files = {"model": word_vectors(table, pooled=True), "tokenizer": tokenizer(), "labels": b"positive\nneutral\nnegative\n"}
    model = enter("domain.task_types.text_sentiment", files, {"input": {"kind": "tokens"}, "output": {"kind": "labels"}})

    results = model.results([{"text": text} for text in ("good pond", "bad", "pond pond pond")])

    assert [result.output.model_dump()["label"] for result in results if isinstance(result, Inference)] == ["positive", "negative", "neutral"]
    assert [result.usage for result in results if isinstance(result, Inference)] == [Usage(2), Usage(1), Usage(3)]


@pytest.mark.parametrize(("max_tokens", "fits"), [(8, True), (9, False)])
def test_text_longer_than_the_model_takes_stops_the_load(enter: Enter, max_tokens: int, fits: bool) -> None:
    table = np.ones((8, 2), np.float32)  # a place for each token, as encoders have them
    nodes = [
        helper.make_node("CumSum", ["attention_mask", "last"], ["from_one"]),
        helper.make_node("Sub", ["from_one", "one"], ["places"]),
        helper.make_node("Gather", ["table", "places"], ["y"]),
    ]
    tokens = [helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "length"])]
    files = {"model": graph(nodes, tokens, ["n", "length", 2], table=table, last=np.array(1), one=np.array(1)), "tokenizer": tokenizer()}
    options = {"input": {"kind": "tokens", "field": "texts", "max_tokens": max_tokens}, "output": {"kind": "vector", "pool": "first"}}
    if fits:
        assert enter("domain.task_types.text_embedding", files, options).one({"texts": ["good " * 20]}).usage == Usage(8)
        return
    with pytest.raises(ConfigurationError, match="the model does not take what the spec makes"):
        enter("domain.task_types.text_embedding", files, options)


def test_texts_become_unit_vectors_whatever_stands_beside_them(enter: Enter) -> None:
    table = np.eye(len(WORDS), 3, dtype=np.float32) + 0.5
    files = {"model": word_vectors(table, pooled=False), "tokenizer": tokenizer()}
    options = {"input": {"kind": "tokens", "field": "texts"}, "output": {"kind": "vector", "pool": "mean"}, "rows_per_run": 2}
    model = enter("domain.task_types.text_embedding", files, options)

    together = model.results([{"texts": ["good", "bad pond good good", "pond"]}, {"texts": ["bad pond good good"]}])
    alone = model.one({"texts": ["bad pond good good"]})

    first, second = (result.output.model_dump() for result in together if isinstance(result, Inference))
    assert first["dimensions"] == 3
    assert np.linalg.norm(first["embeddings"], axis=1) == pytest.approx(1.0)
    assert first["embeddings"][1] == pytest.approx(second["embeddings"][0])
    assert second["embeddings"][0] == pytest.approx(alone.output.model_dump()["embeddings"][0])
    assert first["embeddings"][0] == pytest.approx(table[1] / np.linalg.norm(table[1]))


# --- numbers, and a task type of one's own ---------------------------------------------------------------------------------

OWN = '''"""Doubles."""
from domain.contracts import Contract, Example
class Input(Contract):
    """Numbers."""
    values: list[float]
class Output(Contract):
    """Numbers."""
    doubled: list[float]
EXAMPLES = (Example("One", {"values": [1.0]}),)
'''
RAW = {"input": {"kind": "numbers", "field": "values"}, "output": {"kind": "raw", "field": "doubled"}, "rows_per_run": 4}


@pytest.fixture
def own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "task_of_a_test.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "task_of_a_test"


@pytest.mark.parametrize(("batch", "together"), [("n", [4, 4, 4, 4, 1]), (2, [2] * 5), (1, [1] * 5)])
def test_rows_of_many_jobs_share_a_run_as_far_as_the_model_allows(enter: Enter, own_task: str, batch: int | str, together: Sequence[int]) -> None:
    model = enter(own_task, {"model": rows_together(batch)}, RAW)
    results = model.results([{"values": [10.0 * job]} for job in range(5)])
    assert [result.output.model_dump()["doubled"] for result in results if isinstance(result, Inference)] == [
        [10.0 * job + rows] for job, rows in enumerate(together)
    ]


def test_numbers_of_other_shapes_and_no_numbers_fail_or_run_apart(enter: Enter, own_task: str) -> None:
    model = enter(own_task, {"model": rows_together("n")}, RAW)
    results = model.results([{"values": [1.0, 2.0]}, {"values": [1.0]}, {"values": [3.0, 4.0]}, {"values": [1e300]}])
    said = [result.code if isinstance(result, InferenceError) else result.output.model_dump()["doubled"] for result in results]
    assert said == [[3.0, 4.0], [3.0], [5.0, 6.0], "invalid_output"]


def test_unwanted_jobs_are_not_run(enter: Enter, own_task: str) -> None:
    model = enter(own_task, {"model": rows_together("n")}, RAW)
    first, second = model.results([{"values": [1.0]}, {"values": [2.0]}], should_stop=lambda job: job == 0)
    assert isinstance(first, CanceledByUser)
    assert isinstance(second, Inference)
    assert second.output.model_dump()["doubled"] == [3.0]


WRONG: list[tuple[str, Mapping[str, Any]]] = [
    ("input has no 'nothing'", {**RAW, "input": {"kind": "numbers", "field": "nothing"}}),
    ("output has no tripled", {**RAW, "output": {"kind": "raw", "field": "tripled"}}),
    ("output has no dimensions, embeddings", {**RAW, "output": {"kind": "vector"}}),
]


@pytest.mark.parametrize(("says", "options"), WRONG)
def test_entry_that_does_not_fit_the_task_stops_the_load(enter: Enter, own_task: str, says: str, options: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=says):
        enter(own_task, {"model": rows_together("n")}, options)


def test_worker_hands_the_contract_to_the_backend(tmp_path: Path, own_task: str) -> None:
    catalogue = entered(tmp_path, own_task, {"model": rows_together("n")}, RAW)
    config = replace(worker_config(tmp_path), catalogue=catalogue, models_dir=tmp_path / "store")
    config.save()
    Board.create(tmp_path / BOARD_FILE, config.concurrency * PLACES_PER_SLOT)
    backend = Context(tmp_path).backend("tiny")
    assert isinstance(backend, OnnxFile)
    (result,) = backend.infer([catalogue.contracts["tiny.task"].input.model_validate({"values": [1.0]})], run_of(1))
    assert isinstance(result, Inference)
