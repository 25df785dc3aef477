"""Sentiment by VADER's word list and rules: no weights, English, under a millisecond a sentence."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from domain.failures import CanceledByUser, InferenceError
from domain.task_types.text_sentiment import Input, Label, Output
from workers.backends.base import Inference, Run

PIECE_CHARS = 1_000  # VADER is made for sentences and quadratic in length: 100,000 characters took 27 s whole, 0.5 s in pieces
NEUTRAL_WITHIN = 0.05  # the threshold that VADER's authors give for its compound score
STEEPNESS = 5.0


class Options(BaseModel):
    """VADER takes none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Vader:
    """Runs VADER; the micro-batch is a loop, since a text takes so little."""

    _analyzer: SentimentIntensityAnalyzer

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # VADER's word list is inside its package
        """Reads the word list."""
        Options.model_validate(options)
        self._analyzer = SentimentIntensityAnalyzer()

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Scores each text."""
        return [CanceledByUser() if run.should_stop(job) else Inference(self._score(value.text)) for job, value in enumerate(inputs)]

    def unload(self) -> None:
        """Forgets the word list."""
        del self._analyzer

    def _score(self, text: str) -> Output:
        scores = spread(fmean(self._analyzer.polarity_scores(piece)["compound"] for piece in pieces(text)))
        label: Label = max(scores, key=scores.__getitem__)
        return Output(label=label, score=scores[label], scores=scores)


def spread(compound: float) -> dict[Label, float]:
    """Turns VADER's compound score (−1 to 1) into three scores that sum to 1.

    A softmax whose likeliest label is the one VADER's authors name: positive from 0.05, negative from −0.05, neutral between.
    The scores rank; they are not calibrated probabilities.
    """
    powers: dict[Label, float] = {
        "positive": math.exp(STEEPNESS * compound),
        "neutral": math.exp(STEEPNESS * NEUTRAL_WITHIN),
        "negative": math.exp(-STEEPNESS * compound),
    }
    total = sum(powers.values())
    return {label: power / total for label, power in powers.items()}


def pieces(text: str) -> Iterator[str]:
    """Cuts a text at white space into pieces of at most 1,000 characters; a longer word is cut."""
    start = 0
    while len(text) - start > PIECE_CHARS:
        end = start + PIECE_CHARS
        space = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
        end = space + 1 if space > start else end
        yield text[start:end]
        start = end
    yield text[start:]
