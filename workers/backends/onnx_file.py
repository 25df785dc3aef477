"""Any ``.onnx`` file, by a spec of what goes in and what comes out: for every task type whose contract fits that.

A catalogue entry is enough where a model takes one image, text or row of numbers and gives scores of labels, a vector, or numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnxruntime
from pydantic import Field

from domain.contracts import Contract, TaskContract, Usage
from domain.errors import CanceledByUser, ConfigurationError, InferenceError, InvalidOutput
from workers.backends.base import Inference, Run
from workers.labelled import Activation, activated, check_labels, labelled, output_of
from workers.onnx_session import open_session
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
        """Opens the model, and runs a row of zeros, so that an entry which does not fit fails here and not at each job.

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
        self._check_fields(read)
        (numbers,) = self._outputs([self._feeder.warm([size or 1 for size in row])])
        if isinstance(read.output, LabelsSpec):
            self._labels = read.output.labels or files["labels"].read_text(encoding="utf-8").splitlines()
            if numbers.shape != (len(self._labels),):
                raise ConfigurationError(f"output: there are {len(self._labels)} labels, and the model gives numbers of the shape {list(numbers.shape)}")
            check_labels(self._contract, self._labels)
        elif isinstance(read.output, VectorSpec) and numbers.ndim != 1:
            raise ConfigurationError(f"output.pool: the model gives no vector a row, but numbers of the shape {list(numbers.shape)}")

    def infer(self, inputs: Sequence[Any], run: Run) -> Sequence[Inference | InferenceError]:
        """Reads every job's rows, and runs rows of like length together, whosever they are."""
        results: dict[int, Inference | InferenceError] = {}
        rows: list[tuple[int, Any]] = []
        for job, value in enumerate(inputs):
            try:
                if run.should_stop(job):
                    raise CanceledByUser
                rows += [(job, row) for row in self._feeder.rows(value, run.blobs[job] if run.blobs else {})]
            except InferenceError as error:
                results[job] = error
        outputs: dict[int, Array] = {}
        for members in self._runs([self._feeder.tokens(row) for _, row in rows]):
            results |= {job: CanceledByUser() for job in {rows[place][0] for place in members} if run.should_stop(job)}
            wanted = [place for place in members if rows[place][0] not in results]
            if wanted:
                outputs |= dict(zip(wanted, self._outputs([rows[place][1] for place in wanted]), strict=True))
        for job, value in enumerate(inputs):
            if job not in results:
                mine = [place for place, (owner, _) in enumerate(rows) if owner == job]
                results[job] = self._result(value, [outputs[place] for place in mine], [rows[place][1] for place in mine])
        return [results[job] for job in range(len(inputs))]

    def unload(self) -> None:
        """Closes the session."""
        del self._session, self._feeder

    def _check_fields(self, read: Options) -> None:
        """Whether the contract has the fields that the spec names.

        Raises:
            ConfigurationError: naming the one that it lacks.
        """
        if read.input.field not in self._contract.input.model_fields:
            raise ConfigurationError(f"input.field: the task's input has no {read.input.field!r}")
        wanted = {"embeddings", "dimensions"} if isinstance(read.output, VectorSpec) else {read.output.field} if isinstance(read.output, RawSpec) else set()
        if lacks := sorted(wanted - set(self._contract.output.model_fields)):
            raise ConfigurationError(f"output: the task's output has no {', '.join(lacks)}")

    def _runs(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of the rows of each run: the shortest first, so that little is computed on padding; numbers of different shapes apart."""
        members: list[int] = []
        apart = isinstance(self._options.input, NumbersSpec)
        for place in sorted(range(len(lengths)), key=lengths.__getitem__):
            if members and (len(members) == self._rows_per_run or (apart and lengths[place] != lengths[members[0]])):
                yield members
                members = []
            members.append(place)
        if members:
            yield members

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

    def _result(self, value: Any, outputs: Sequence[Array], rows: Sequence[Any]) -> Inference | InferenceError:
        try:
            output = self._output(value, outputs)
        except InvalidOutput as error:
            return error
        tokens = sum(self._feeder.tokens(row) for row in rows) if isinstance(self._options.input, TokensSpec) else 0
        return Inference(output, Usage(input_tokens=tokens))

    def _output(self, value: Any, outputs: Sequence[Array]) -> Contract:
        said = self._options.output
        if isinstance(said, LabelsSpec):
            return labelled(self._contract, self._labels, activated(outputs[0], said.activation), value)
        if isinstance(said, RawSpec):
            return output_of(self._contract, {said.field: outputs[0].tolist()})
        vectors = np.stack(outputs).astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise InvalidOutput("the model's vector has no direction")
        return output_of(self._contract, {"embeddings": (vectors / lengths).tolist(), "dimensions": vectors.shape[1]})
