"""Sentiment by embeddings: a text sounds like the sentences that its vector is nearest to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, InferenceError
from domain.task_types.text_sentiment import Input, Label, Output
from workers.backends.base import Inference, Run
from workers.encoders import Encoder, open_encoder
from workers.sentences import sample, sentences
from workers.vectors import Embedded, Vectors, softmax, unit

LABELS: Final[tuple[Label, ...]] = get_args(Label)
PROTOTYPES: Final[Mapping[Label, tuple[str, ...]]] = {
    "positive": (
        "I love it, it is wonderful.",
        "Excellent, I am very happy with this.",
        "What a beautiful and enjoyable experience.",
        "Great work, everything went better than expected.",
        "They were kind and helpful, thank you so much.",
    ),
    "neutral": (
        "The meeting is on Monday at nine.",
        "The box contains four screws and a manual.",
        "It is a building in the north of the town.",
        "He walked to the station and took the train.",
        "The report has twelve pages.",
    ),
    "negative": (
        "I hate it, it is terrible.",
        "Awful, I am very disappointed with this.",
        "What an ugly and boring waste of time.",
        "It broke at once and nothing works as promised.",
        "They were rude and did not help at all.",
    ),
}


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_sentences, max_chars: of a text that has more, every second, third, … sentence is read.
        steepness: what cosines are multiplied with before the softmax; more makes the scores surer of themselves.
        encoder: the encoder's options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_sentences: Annotated[int, Field(ge=1, le=1_024)] = 64
    max_chars: Annotated[int, Field(ge=1_000)] = 10_000
    steepness: Annotated[float, Field(gt=0, le=100)] = 15.0
    encoder: Mapping[str, Any] = {}


class PrototypeSentiment:
    """Compares texts with prototypes by an encoder; files: see ``open_encoder``."""

    _options: Options
    _encoder: Encoder
    _prototypes: Vectors

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the encoder and embeds the prototypes."""
        self._options = Options.model_validate(options)
        self._encoder = open_encoder(files, self._options.encoder)
        self._prototypes = np.stack([unit(self._encoder.embed(PROTOTYPES[label]).mean(axis=0)) for label in LABELS])

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Embeds the sentences of all texts together."""
        read = [sample(sentences(value.text), self._options.max_sentences, self._options.max_chars) for value in inputs]
        return [CanceledByUser() if embedded is None else self._result(embedded) for embedded in self._encoder.embed_jobs(read, run)]

    def unload(self) -> None:
        """Lets the encoder go."""
        del self._encoder, self._prototypes

    def _result(self, embedded: Embedded) -> Inference:
        near = (embedded.vectors @ self._prototypes.T).mean(axis=0)
        scores = dict(zip(LABELS, softmax(self._options.steepness * near), strict=True))
        label = max(scores, key=scores.__getitem__)
        return Inference(Output(label=label, score=scores[label], scores=scores), embedded.usage)
