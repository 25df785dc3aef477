"""What a model's numbers become for a task type: labels with scores, a vector, or the numbers themselves, as its Output has fields for them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from domain.contracts import Contract, TaskContract
from domain.errors import ConfigurationError
from domain.failures import InvalidOutput

Array = NDArray[Any]
Activation = Literal["softmax", "sigmoid", "none"]
MOST_LISTED = 100  # contracts take no more
_LABELLED = frozenset({"label", "score", "scores", "labels"})


def activated(logits: Array, activation: Activation) -> Array:
    """Scores of logits, along the last axis, in double precision, so that they sum to 1 as the contracts say."""
    numbers = logits.astype(np.float64)
    if activation == "softmax":
        powers = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
        shares: Array = powers / powers.sum(axis=-1, keepdims=True)
        return shares
    if activation == "sigmoid":
        numbers = 1.0 / (1.0 + np.exp(-np.clip(numbers, -500, 500)))
    return numbers


def labelled(contract: TaskContract, labels: Sequence[str], scores: Array, value: object) -> Contract:
    """An Output of those of ``label``, ``score``, ``scores`` (by label) and ``labels`` (a list of both, the best first) that the contract has.

    Args:
        contract: of the task.
        labels: of each score.
        scores: 0 to 1, one a label.
        value: the Input; its ``top_k``, if it has one, bounds ``labels``, else ``MOST_LISTED`` does.

    Raises:
        InvalidOutput: the contract takes no such scores.
    """
    shares = np.clip(scores, 0.0, 1.0).tolist() if np.isfinite(scores).all() else scores.tolist()
    best = sorted(range(len(labels)), key=lambda place: -shares[place])
    top: int = getattr(value, "top_k", MOST_LISTED)
    said: dict[str, object] = {
        "label": labels[best[0]],
        "score": shares[best[0]],
        "scores": dict(zip(labels, shares, strict=True)),
        "labels": [{"label": labels[place], "score": shares[place]} for place in best[:top]],
    }
    return output_of(contract, {name: said[name] for name in contract.output.model_fields if name in _LABELLED})


def embedded(contract: TaskContract, vectors: Sequence[Array]) -> Contract:
    """An Output of ``embeddings`` of length 1, and ``dimensions``.

    Raises:
        InvalidOutput: a vector has no direction.
    """
    numbers = np.stack(vectors).astype(np.float64)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise InvalidOutput("the model's vector has no direction")
    return output_of(contract, {"embeddings": (numbers / lengths).tolist(), "dimensions": numbers.shape[1]})


def output_of(contract: TaskContract, fields: Mapping[str, object]) -> Contract:
    """An Output of fields.

    Raises:
        InvalidOutput: they do not keep the contract.
    """
    try:
        return contract.output.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InvalidOutput(f"the model's output does not keep the contract: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def check_fields(contract: TaskContract, field: str, outputs: Iterable[str] = ()) -> None:
    """Whether a task has the fields that a model's entry needs.

    Args:
        contract: of the task.
        field: of its Input.
        outputs: of its Output.

    Raises:
        ConfigurationError: naming those that it lacks.
    """
    if field not in contract.input.model_fields:
        raise ConfigurationError(f"field: the task's input has no {field!r}")
    if lacks := sorted(set(outputs) - set(contract.output.model_fields)):
        raise ConfigurationError(f"output: the task's output has no {', '.join(lacks)}")


def check_labels(contract: TaskContract, labels: Sequence[str]) -> None:
    """Tries the labels of a model on a contract, so that an entry that does not fit fails at the load and not at each job.

    Raises:
        ConfigurationError: naming the field.
    """
    if len(set(labels)) < len(labels):
        raise ConfigurationError("labels: two are the same")
    for best in range(len(labels)):
        scores = np.zeros(len(labels))
        scores[best] = 1.0
        try:
            labelled(contract, labels, scores, None)
        except InvalidOutput as error:
            raise ConfigurationError(f"labels: {labels[best]!r} does not fit the task: {error.message}") from error
