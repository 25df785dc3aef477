"""Sentence embeddings by an ONNX encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.errors import CanceledByUser, InferenceError
from domain.task_types.text_embedding import Input, Output
from workers.backends.base import Inference, Run
from workers.sentence_encoder import Embedded, SentenceEncoder


class OnnxEmbedding:
    """Hands the vectors of a sentence encoder out; files: ``model`` (ONNX) and ``tokenizer``, options: ``EncoderOptions``."""

    _encoder: SentenceEncoder

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the encoder."""
        self._encoder = SentenceEncoder.open(files, options)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Embeds all texts of all jobs, similar lengths together."""
        jobs = self._encoder.embed_jobs([value.texts for value in inputs], run, tell_progress=True)
        return [CanceledByUser() if embedded is None else _inference(embedded) for embedded in jobs]

    def unload(self) -> None:
        """Lets the encoder go."""
        del self._encoder


def _inference(embedded: Embedded) -> Inference:
    vectors = embedded.vectors
    return Inference(Output(embeddings=vectors.tolist(), dimensions=vectors.shape[1]), embedded.usage)
