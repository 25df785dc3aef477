"""Sentence embeddings by an encoder: a network, or a table of tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.failures import CanceledByUser, InferenceError
from domain.task_types.text_embedding import Input, Output
from workers.backends.base import Inference, Run
from workers.encoders import Encoder, open_encoder
from workers.vectors import Embedded


class EncoderEmbedding:
    """Hands the vectors of an encoder out; files and options: see ``open_encoder``."""

    _encoder: Encoder

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the encoder."""
        self._encoder = open_encoder(files, options)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Embeds all texts of all jobs."""
        jobs = self._encoder.embed_jobs([value.texts for value in inputs], run, tell_progress=True)
        return [CanceledByUser() if embedded is None else _inference(embedded) for embedded in jobs]

    def unload(self) -> None:
        """Lets the encoder go."""
        del self._encoder


def _inference(embedded: Embedded) -> Inference:
    vectors = embedded.vectors
    return Inference(Output(embeddings=vectors.tolist(), dimensions=vectors.shape[1]), embedded.usage)
