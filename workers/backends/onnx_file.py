"""Any ``.onnx`` file, by a spec of what goes in and what comes out: for every task type whose contract fits that.

A catalogue entry is enough where a model takes one image, text or row of numbers and gives scores of labels, a vector, or numbers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnxruntime
from pydantic import Field

from domain.contracts import Contract, TaskContract
from domain.errors import ConfigurationError
from domain.failures import InferenceError, InvalidOutput
from domain.usage import Usage
from workers.backends.base import Inference, Run
from workers.onnx_session import open_session
from workers.outputs import Activation, activated, check_fields, check_labels, embedded, labelled, output_of
from workers.rows import Computed, by_length, computed
from workers.tensors import Array, Feeder, Images, ImageSpec, Numbers, NumbersSpec, Spec, Tokens, TokensSpec

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
}


class LabelsSpec(Spec):
    """Scores of labels, for contracts with ``label``, ``score``, ``scores`` or ``labels``.

    Attributes:
        labels: in the order of the model's numbers; from the file ``labels``, one a line, if left out.
        activation: what makes scores of them.
    """

    kind: Literal["labels"]
    labels: tuple[str, ...] = ()
    activation: Activation = "softmax"


class VectorSpec(Spec):
    """Unit vectors, for contracts with ``embeddings`` and ``dimensions``.

    Attributes:
        pool: what makes one vector of a row's token vectors: their mean, or the first one; ``none`` where the model has done it.
    """

    kind: Literal["vector"]
    pool: Literal["none", "mean", "first"] = "none"


class RawSpec(Spec):
    """The numbers as they are.

    Attributes:
        field: of the task's Output that takes them.
    """

    kind: Literal["raw"]
    field: str


class Options(Spec):
    """What the catalogue may say about the model.

    Attributes:
        input: what a row is made of.
        output: what becomes of it.
        output_name: of the model's outputs, if it is not the first.
        rows_per_run: rows of different jobs in one run, where the model's first dimension varies; else its own number.
        threads: of one child; said outright, since the runtime otherwise takes every core of the host.
    """

    input: Annotated[ImageSpec | TokensSpec | NumbersSpec, Field(discriminator="kind")]
    output: Annotated[LabelsSpec | VectorSpec | RawSpec, Field(discriminator="kind")]
    output_name: str | None = None
    rows_per_run: Annotated[int, Field(ge=1, le=1_024)] = 16
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class OnnxFile:
    """Runs a file. Files: ``model``; ``tokenizer`` for tokens; ``labels`` where the options have none."""

    _options: Options
    _contract: TaskContract
    _session: onnxruntime.InferenceSession
    _feeder: Feeder
    _labels: Sequence[str] = ()
    _rows_per_run: int
    _fixed: bool

    def take_contract(self, contract: TaskContract) -> None:
        """Keeps the contract for the load."""
        self._contract = contract

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the model, and runs a row as large as they come, so that an entry which does not fit fails here and not at each job.

        Raises:
            ConfigurationError: the model, the spec and the task's contract do not fit together.
        """
        self._options = read = Options.model_validate(options)
        self._session = open_session(files["model"], threads=read.threads)
        first = self._session.get_inputs()[0]
        batch, *row = [size if isinstance(size, int) and size > 0 else None for size in first.shape]
        self._fixed, self._rows_per_run = batch is not None, batch or read.rows_per_run
        if isinstance(read.input, ImageSpec):
            self._feeder = Images(read.input)
        elif isinstance(read.input, TokensSpec):
            self._feeder = Tokens(read.input, files["tokenizer"], row[0])
        else:
            self._feeder = Numbers(read.input, [size or -1 for size in row])
        check_fields(self._contract, read.input.field, _fields_of(read.output))
        try:
            (numbers,) = self._outputs([self._feeder.warm([size or 1 for size in row])])
        except Exception as error:
            raise ConfigurationError(f"input: the model does not take what the spec makes: {error}"[:500]) from error
        if isinstance(read.output, LabelsSpec):
            self._labels = read.output.labels or files["labels"].read_text(encoding="utf-8").splitlines()
            if numbers.shape != (len(self._labels),):
                raise ConfigurationError(f"output: there are {len(self._labels)} labels, and the model gives numbers of the shape {list(numbers.shape)}")
            check_labels(self._contract, self._labels)
        elif isinstance(read.output, VectorSpec) and numbers.ndim != 1:
            raise ConfigurationError(f"output.pool: the model gives no vector a row, but numbers of the shape {list(numbers.shape)}")

    def infer(self, inputs: Sequence[Any], run: Run) -> Sequence[Inference | InferenceError]:
        """Reads every job's rows, and runs rows of like length together, whosever they are."""
        blobs = run.blobs or [{}] * len(inputs)
        apart = isinstance(self._options.input, NumbersSpec)  # rows of several shapes cannot be stacked
        done = computed(
            inputs,
            run,
            read=lambda job, value: self._feeder.rows(value, blobs[job]),
            groups=lambda rows: by_length([self._feeder.tokens(row) for row in rows], self._rows_per_run, apart=apart),
            compute=self._outputs,
        )
        return [self._result(value, found) if isinstance(found, Computed) else found for value, found in zip(inputs, done, strict=True)]

    def unload(self) -> None:
        """Closes the session."""
        del self._session, self._feeder

    def _outputs(self, rows: Sequence[Any]) -> list[Array]:
        """The numbers of each row; a model whose first dimension is fixed is given the last row again, as often as it takes."""
        filled = [*rows, *([rows[-1]] * (self._rows_per_run - len(rows) if self._fixed else 0))]
        inputs = self._session.get_inputs()
        feeds = self._feeder.feeds(filled, inputs[0].name)
        with np.errstate(over="ignore"):  # what is too large for the model's numbers becomes infinite, and its output is refused
            wanted = {node.name: feeds[node.name].astype(_TYPES[node.type], copy=False) for node in inputs}
        names = [self._options.output_name] if self._options.output_name else [self._session.get_outputs()[0].name]
        numbers = np.asarray(self._session.run(names, wanted)[0])[: len(rows)]
        pool = self._options.output.pool if isinstance(self._options.output, VectorSpec) else "none"
        if pool == "first":
            numbers = numbers[:, 0]
        elif pool == "mean":
            mask = feeds["attention_mask"][: len(rows), :, None].astype(np.float32)
            numbers = (numbers * mask).sum(axis=1) / mask.sum(axis=1)
        return list(numbers)

    def _result(self, value: Any, found: Computed) -> Inference | InferenceError:
        try:
            output = self._output(value, found.outputs)
        except InvalidOutput as error:
            return error
        tokens = sum(self._feeder.tokens(row) for row in found.rows) if isinstance(self._options.input, TokensSpec) else 0
        return Inference(output, Usage(input_tokens=tokens))

    def _output(self, value: Any, outputs: Sequence[Array]) -> Contract:
        said = self._options.output
        if isinstance(said, LabelsSpec):
            return labelled(self._contract, self._labels, activated(outputs[0], said.activation), value)
        if isinstance(said, RawSpec):
            return output_of(self._contract, {said.field: outputs[0].tolist()})
        return embedded(self._contract, outputs)


def _fields_of(output: LabelsSpec | VectorSpec | RawSpec) -> tuple[str, ...]:
    """Of the task's Output, that the spec needs."""
    if isinstance(output, VectorSpec):
        return ("embeddings", "dimensions")
    return (output.field,) if isinstance(output, RawSpec) else ()
