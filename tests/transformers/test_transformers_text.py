"""The backend of text models of the transformers library, on small ones with random weights, each entered into a catalogue of its own."""

import hashlib
import json
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, BertConfig

from domain.catalogue import parse_catalogue
from domain.errors import ConfigurationError
from domain.usage import Usage
from tests.conformance.harness import Loaded, load
from weights.pull import pull_models
from workers.backends.base import Inference

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "mill", "pond", "is", "good", "bad", "warm"]
LABELS = {"classification": ["LABEL_0", "LABEL_1", "LABEL_2"], "entities": ["O", "B-LOC", "I-LOC", "B-PER"], "embedding": []}
HEADS = {"classification": AutoModelForSequenceClassification, "entities": AutoModelForTokenClassification, "embedding": AutoModel}
SENTIMENT = {"LABEL_0": "negative", "LABEL_1": "neutral", "LABEL_2": "positive"}
ENTITIES = '''"""Entities."""
from domain.contracts import Contract, Example
class Input(Contract):
    """A text."""
    text: str
class Entity(Contract):
    """One."""
    text: str
    type: str
    start: int
    end: int
    confidence: float
class Output(Contract):
    """All."""
    entities: list[Entity]
EXAMPLES = (Example("One", {"text": "the mill"}),)
'''
FILES = {"config": "config.json", "model": "model.safetensors", "tokenizer": "tokenizer.json"}
Enter = Callable[..., Loaded]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of files for each head."""
    torch.manual_seed(7)
    words = {word: place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    folders = {}
    for head, labels in LABELS.items():
        config = BertConfig(
            vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32,
            initializer_range=1.0, id2label=dict(enumerate(labels)) or None, num_labels=len(labels) or 2,
        )  # fmt: skip
        folders[head] = tmp_path_factory.mktemp(head)
        HEADS[head].from_config(config).save_pretrained(folders[head])
        tokenizer.save(str(folders[head] / "tokenizer.json"))
    return folders


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Enters a folder's files into a catalogue, pulls them and loads the model, with no way out to any network."""
    (tmp_path / "entities_of_a_test.py").write_text(ENTITIES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was made")

    def entered(contract: str, folder: Path, options: Mapping[str, Any], files: Mapping[str, str] = FILES) -> Loaded:
        entries = {
            name: {"source": f"file:{folder / filename}", "sha256": hashlib.sha256((folder / filename).read_bytes()).hexdigest()}
            for name, filename in files.items()
        }
        backend = "workers.backends.transformers_text:TransformersText"
        chosen = {"max_tokens": 32, **options}
        model = {"task": "tiny.task", "pool": "debug", "backend": backend, "version": "1", "options": chosen, "files": entries}
        task = {"contract": contract, "default_model": "tiny"}
        catalogue = parse_catalogue({"pools": {"debug": {}}, "tasks": {"tiny.task": task}, "models": {"tiny": model}})
        pull_models(catalogue, tmp_path / "store", report=print)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        return load(catalogue, "tiny", tmp_path / "store")

    return entered


def own(head: str, folder: Path, text: str) -> Any:
    """What the library itself makes of a text."""
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids])
    with torch.inference_mode():
        return HEADS[head].from_pretrained(folder).eval()(input_ids=ids, attention_mask=torch.ones_like(ids))


def outputs(results: Any) -> list[dict[str, Any]]:
    assert all(isinstance(result, Inference) for result in results), results
    return [result.output.model_dump() for result in results]


TEXTS = ["the mill is good", "bad", "the pond is warm the pond is warm the mill", "good mill"]


def test_classification_is_what_the_library_says_whatever_stands_beside_it(enter: Enter, made: dict[str, Path]) -> None:
    model = enter("domain.task_types.text_sentiment", made["classification"], {"head": "classification", "labels": SENTIMENT, "rows_per_run": 3})

    results = model.results([{"text": text} for text in TEXTS])

    for text, result, output in zip(TEXTS, results, outputs(results), strict=True):
        scores = torch.softmax(own("classification", made["classification"], text).logits[0].double(), -1).tolist()
        assert [output["scores"][label] for label in ("negative", "neutral", "positive")] == pytest.approx(scores, abs=1e-5)
        assert output["label"] == max(output["scores"], key=output["scores"].__getitem__)
        assert result.usage == Usage(len(text.split()) + 2)


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_vectors_are_the_librarys_of_length_one(enter: Enter, made: dict[str, Path], pool: str) -> None:
    model = enter("domain.task_types.text_embedding", made["embedding"], {"head": "embedding", "field": "texts", "pool": pool})

    first, second = outputs(model.results([{"texts": TEXTS[:3]}, {"texts": TEXTS[3:]}]))

    assert first["dimensions"] == 16
    for text, vector in zip(TEXTS, first["embeddings"] + second["embeddings"], strict=True):
        hidden = own("embedding", made["embedding"], text).last_hidden_state[0].numpy()
        expected = hidden.mean(axis=0) if pool == "mean" else hidden[0]
        assert vector == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_entities_are_the_librarys_labels_at_their_places(enter: Enter, made: dict[str, Path]) -> None:
    model = enter("entities_of_a_test", made["entities"], {"head": "entities"})
    for text, output in zip(TEXTS, outputs(model.results([{"text": text} for text in TEXTS])), strict=True):
        best = own("entities", made["entities"], text).logits[0].argmax(-1).tolist()[1:-1]
        labels = [LABELS["entities"][place] for place in best]
        assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in output["entities"])
        marked = " ".join(entity["text"] for entity in output["entities"]).split()
        assert marked == [word for word, label in zip(text.split(), labels, strict=True) if label != "O"]


def _without_a_head(folder: Path) -> Mapping[str, str]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "id2label": dict(enumerate(SENTIMENT.values()))}), encoding="utf-8")
    return FILES


def _code(folder: Path) -> Mapping[str, str]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return FILES


def _pickle(folder: Path) -> Mapping[str, str]:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return {**FILES, "model": "pytorch_model.bin"}


@pytest.mark.parametrize(
    ("source", "change", "says"),
    [
        ("embedding", _without_a_head, "classifier.* are missing"),
        ("classification", _code, "auto_map"),
        ("classification", _pickle, "must be a file model.safetensors"),
    ],
)
def test_files_that_are_not_the_whole_model_stop_the_load(
    enter: Enter, made: dict[str, Path], tmp_path: Path, source: str, change: Callable[[Path], Mapping[str, str]], says: str
) -> None:
    folder = Path(shutil.copytree(made[source], tmp_path / "copy"))
    files = change(folder)
    with pytest.raises(ConfigurationError, match=says):
        enter("domain.task_types.text_sentiment", folder, {"head": "classification", "labels": SENTIMENT}, files)


def test_labels_that_the_task_does_not_know_stop_the_load(enter: Enter, made: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="'LABEL_0' does not fit the task"):
        enter("domain.task_types.text_sentiment", made["classification"], {"head": "classification"})


def test_text_longer_than_the_model_takes_stops_the_load(enter: Enter, made: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="max_tokens: the model does not take a text of 33 tokens"):
        enter("domain.task_types.text_embedding", made["embedding"], {"head": "embedding", "field": "texts", "max_tokens": 33})
