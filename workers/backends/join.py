"""No model of its own: compares what others answered, and finds the answer that stands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from domain.agreement.comparator import Comparison, Embed
from domain.agreement.joining import Decision, OnDisagreement, join
from domain.contracts import load_contract
from domain.failures import CanceledByUser, InferenceError, InvalidInput, InvalidOutput, NoAnswer
from domain.task_types.consensus_join import Answer, Dissent, Input, Output, Resolution
from workers.backends.base import Inference, Run


class Options(BaseModel):
    """What the catalogue may say.

    Attributes:
        embedder: a model of ``text.embedding``, by which texts are compared where its weights are there; without one, words are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedder: str | None = None


class Join:
    """Compares by the comparator of the task that was asked, so that it knows nothing of any."""

    def __init__(self) -> None:
        self._embed: Embed | None = None

    def take_embedder(self, embed: Embed) -> None:
        """Is lent a way to embed texts."""
        self._embed = embed

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002 - there are no weights
        """Has nothing to load: an embedder loads when first it is needed."""
        Options.model_validate(options)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Joins each on its own."""
        return [CanceledByUser() if run.should_stop(place) else self._joined(value) for place, value in enumerate(inputs)]

    def unload(self) -> None:
        """Has nothing to give back."""

    def _joined(self, value: Input) -> Inference | InferenceError:
        contract = load_contract(value.contract)
        if contract.comparator is None:
            return InvalidInput("answers of this task cannot be compared")
        if not value.answers:
            return NoAnswer()
        resolution = value.resolution
        if resolution is not None and resolution.accept is not None and resolution.accept not in {answer.model for answer in value.answers}:
            return InvalidInput(f"{resolution.accept} has given no answer")
        given = [answer.output for answer in value.answers]
        if resolution is not None and resolution.output is not None:
            given.append(resolution.output)
        try:
            asked = contract.input.model_validate_json(orjson.dumps(value.asked))
            answers = [contract.output.model_validate_json(orjson.dumps(output)) for output in given]
        except ValidationError as error:
            return InvalidOutput(f"an answer does not keep the contract: {error.error_count()} errors")
        return Inference(_output(value, contract.comparator.compare(asked, answers, embed=self._embed)))


def _output(value: Input, comparison: Comparison) -> Output:
    """The verdict; a person's own answer, if there is one, stands last in the comparison and has no vote."""
    voters = len(value.answers)
    matrix = [row[:voters] for row in comparison.matrix[:voters]]
    models = [answer.model for answer in value.answers]
    joined = join(
        matrix,
        [answer.quality for answer in value.answers],
        min_agreement=value.min_agreement,
        on_disagreement=OnDisagreement(value.on_disagreement),
    )
    decision, chosen = joined.decision, joined.chosen
    output = None if chosen is None else value.answers[chosen].output
    if value.resolution is not None:
        decision, chosen, output = _resolved(value.resolution, value.answers)
    nearness = comparison.matrix[voters if decision is Decision.REPLACED else joined.leader if chosen is None else chosen]
    return Output(
        decision=decision.value,
        output=output,
        model=None if chosen is None else models[chosen],
        leader=models[joined.leader],
        agreement=joined.agreement,
        method=comparison.method,
        answered=models,
        matrix=matrix,
        dissents=[
            Dissent(model=answer.model, output=answer.output, agreement=nearness[place])
            for place, answer in enumerate(value.answers)
            if place != chosen and (output is None or nearness[place] < 1.0)
        ],
    )


def _resolved(resolution: Resolution, answers: Sequence[Answer]) -> tuple[Decision, int | None, dict[str, Any] | None]:
    if resolution.reject is not None:
        return Decision.REJECTED, None, None
    if resolution.output is not None:
        return Decision.REPLACED, None, resolution.output
    chosen = [answer.model for answer in answers].index(str(resolution.accept))
    return Decision.ACCEPTED, chosen, answers[chosen].output
