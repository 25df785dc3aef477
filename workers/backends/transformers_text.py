"""Text models of the transformers library, from files that the catalogue pins: classification, entities, vectors.

Nothing is looked for outside those files: no hub is asked, weights are safetensors, and the architecture is one of the library's own, since
code that comes with a model is not run.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import torch
from pydantic import Field
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification

from domain.contracts import Contract, TaskContract
from domain.errors import ConfigurationError
from domain.failures import InferenceError, InvalidOutput
from domain.usage import Usage
from workers.backends.base import Inference, Run
from workers.entities import entities_of
from workers.outputs import Activation, activated, check_fields, check_labels, embedded, labelled, output_of
from workers.rows import Computed, by_length, computed
from workers.tensors import Array, Spec, Tokens, TokensSpec

_HEADS: Final = {"classification": AutoModelForSequenceClassification, "entities": AutoModelForTokenClassification, "embedding": AutoModel}
_FIELDS: Final = {"classification": (), "entities": ("entities",), "embedding": ("embeddings", "dimensions")}
_FILES: Final = {"config": "config.json", "model": "model.safetensors", "tokenizer": "tokenizer.json"}


class Options(Spec):
    """What the catalogue may say about the model.

    Attributes:
        head: what the model does.
        field: of the task's Input: a text, or for ``embedding`` a text or several.
        max_tokens: longer texts are cut to so many, the special ones included.
        labels: the task's words for the model's own labels, where they differ.
        activation: of ``classification``.
        pool: of ``embedding``: the mean of the token vectors, or the first one.
        rows_per_run: texts of different jobs in one run.
        threads: of one child; said outright, since the runtime otherwise takes every core of the host.
    """

    head: Literal["classification", "entities", "embedding"]
    field: str = "text"
    max_tokens: Annotated[int, Field(ge=4, le=32_768)] = 256
    labels: Mapping[str, str] = {}
    activation: Activation = "softmax"
    pool: Literal["mean", "first"] = "mean"
    rows_per_run: Annotated[int, Field(ge=1, le=1_024)] = 16
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class TransformersText:
    """Runs a model of one folder. Files: ``config`` (config.json), ``model`` (model.safetensors), ``tokenizer`` (tokenizer.json)."""

    _options: Options
    _contract: TaskContract
    _tokens: Tokens
    _model: Any
    _takes: frozenset[str]
    _labels: Sequence[str]

    def take_contract(self, contract: TaskContract) -> None:
        """Keeps the contract for the load."""
        self._contract = contract

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Loads the weights, all of them and no others, and runs a text as long as they come.

        Raises:
            ConfigurationError: files, options and the task's contract do not fit together, or the model wants to bring code.
        """
        self._options = read = Options.model_validate(options)
        check_fields(self._contract, read.field, _FIELDS[read.head])
        config = _checked(files)
        torch.set_num_threads(read.threads)
        self._tokens = Tokens(TokensSpec(kind="tokens", field=read.field, max_tokens=read.max_tokens), files["tokenizer"], None)
        self._model, told = _HEADS[read.head].from_pretrained(
            files["config"].parent, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        if told["missing_keys"] or told["mismatched_keys"]:  # the library would make them up, and say so in a warning only
            raise ConfigurationError(f"model: these weights are not of a model for {read.head}: {sorted(map(str, told['missing_keys']))[:3]} are missing")
        self._model.eval()
        self._takes = frozenset(inspect.signature(self._model.forward).parameters)
        names = {int(place): str(name) for place, name in config.get("id2label", {}).items()} or self._model.config.id2label
        self._labels = [read.labels.get(names[place], names[place]) for place in sorted(names)]
        if read.head == "classification":
            check_labels(self._contract, self._labels)
        try:
            self._compute([self._tokens.warm(())])
        except Exception as error:
            raise ConfigurationError(f"max_tokens: the model does not take a text of {read.max_tokens} tokens: {error}") from error

    def infer(self, inputs: Sequence[Any], run: Run) -> Sequence[Inference | InferenceError]:
        """Runs texts of like length together, whosever they are."""
        done = computed(
            inputs,
            run,
            read=lambda _, value: self._tokens.rows(value, {}),
            groups=lambda rows: by_length([len(row) for row in rows], self._options.rows_per_run),
            compute=self._compute,
        )
        return [self._result(value, found) if isinstance(found, Computed) else found for value, found in zip(inputs, done, strict=True)]

    def unload(self) -> None:
        """Frees the model."""
        del self._model, self._tokens

    def _compute(self, rows: Sequence[Sequence[int]]) -> list[Array]:
        """Logits of each row, or of each of its tokens, or its pooled vector."""
        feeds = self._tokens.feeds(rows, "input_ids")
        with torch.inference_mode():
            said = self._model(**{name: torch.from_numpy(value) for name, value in feeds.items() if name in self._takes})
        if self._options.head == "classification":
            return list(said.logits.numpy())
        if self._options.head == "entities":
            return [numbers[: len(row)] for numbers, row in zip(said.logits.numpy(), rows, strict=True)]
        vectors: Array = said.last_hidden_state.numpy()
        if self._options.pool == "first":
            return list(vectors[:, 0])
        return [np.asarray(numbers[: len(row)].mean(axis=0)) for numbers, row in zip(vectors, rows, strict=True)]

    def _result(self, value: Any, found: Computed) -> Inference | InferenceError:
        try:
            output = self._output(value, found.outputs)
        except InvalidOutput as error:
            return error
        return Inference(output, Usage(input_tokens=sum(len(row) for row in found.rows)))

    def _output(self, value: Any, outputs: Sequence[Array]) -> Contract:
        if self._options.head == "embedding":
            return embedded(self._contract, outputs)
        if self._options.head == "classification":
            return labelled(self._contract, self._labels, activated(outputs[0], self._options.activation), value)
        text = getattr(value, self._options.field)
        found = entities_of(text, self._tokens.spans(text), activated(outputs[0], "softmax"), self._labels)
        return output_of(self._contract, {"entities": [entity.as_dict() for entity in found]})


def _checked(files: Mapping[str, Path]) -> Mapping[str, Any]:
    """The model's configuration, once its files are those that the library will look for.

    Raises:
        ConfigurationError: a file is missing or has another name, or the configuration names code.
    """
    for name, filename in _FILES.items():
        if name not in files or files[name].name != filename:
            raise ConfigurationError(f"files.{name}: must be a file {filename}")
    config: Mapping[str, Any] = json.loads(files["config"].read_text(encoding="utf-8"))
    if "auto_map" in config:
        raise ConfigurationError("files.config: names code of its own (auto_map), which is not run")
    return config
