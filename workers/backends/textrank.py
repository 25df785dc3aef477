"""Extractive summaries by TextRank: sentences are ranked by how much of the rest is like them, as pages are by links."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, InferenceError
from domain.task_types.text_summarization import Input, Output
from workers.backends.base import Inference, Run
from workers.encoders import Encoder, open_encoder
from workers.sentences import sample, sentences
from workers.vectors import Vectors

DAMPING = 0.85  # PageRank's: the share of a sentence's rank that comes from its likes
ROUNDS = 40  # of the power iteration; 0.85 ** 40 is 0.0015, and only the order matters
REPETITION = 0.9  # a cosine above which two sentences say the same


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_sentences, max_chars: of a text that has more, every second, third, … sentence is read, so that a job stays within seconds.
        encoder: the encoder's options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_sentences: Annotated[int, Field(ge=8, le=4_096)] = 400
    max_chars: Annotated[int, Field(ge=1_000)] = 40_000
    encoder: Mapping[str, Any] = {}


class TextRank:
    """Chooses sentences by an encoder; files: see ``open_encoder``."""

    _options: Options
    _encoder: Encoder

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the encoder."""
        self._options = Options.model_validate(options)
        self._encoder = open_encoder(files, self._options.encoder)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Embeds the sentences of all jobs together; a text that is short enough already is not read at all."""
        split = [sentences(value.text) for value in inputs]
        to_read = [
            sample(found, self._options.max_sentences, self._options.max_chars) if len(found) > value.max_sentences else []
            for value, found in zip(inputs, split, strict=True)
        ]
        results: list[Inference | InferenceError] = []
        for value, found, read, embedded in zip(inputs, split, to_read, self._encoder.embed_jobs(to_read, run, tell_progress=True), strict=True):
            if embedded is None:
                results.append(CanceledByUser())
            else:
                kept = [read[index] for index in most_central(embedded.vectors, value.max_sentences)] if read else found
                results.append(Inference(Output(summary=" ".join(kept)), embedded.usage))
        return results

    def unload(self) -> None:
        """Lets the encoder go."""
        del self._encoder


def most_central(vectors: Vectors, most: int) -> list[int]:
    """Indexes of at most so many sentences that speak for the rest, in the order of the text; of those that say the same only one.

    Args:
        vectors: one unit vector a sentence.
        most: 1 or more.
    """
    alike = vectors @ vectors.T
    links = np.maximum(alike, 0)
    np.fill_diagonal(links, 0)
    links /= np.maximum(links.sum(axis=0, keepdims=True), np.finfo(np.float32).tiny)  # each sentence gives its rank away in shares
    rank = np.full(len(vectors), 1 / len(vectors))
    for _ in range(ROUNDS):
        rank = (1 - DAMPING) / len(vectors) + DAMPING * (links @ rank)
    chosen: list[int] = []
    for index in np.argsort(-rank, kind="stable").tolist():
        if len(chosen) < most and all(alike[index, other] < REPETITION for other in chosen):
            chosen.append(index)
    return sorted(chosen)
