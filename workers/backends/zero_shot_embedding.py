"""Zero-shot classification by embeddings: the label whose vector is nearest to the text's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, InferenceError
from domain.task_types.text_zero_shot import Input, Output
from workers.backends.base import Inference, Run
from workers.encoders import Encoder, open_encoder
from workers.vectors import Embedded, softmax


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        template: the sentence into which a label is put before it is embedded; ``{}`` stands for the label.
        steepness: what cosines are multiplied with before the softmax. More makes the scores surer of themselves and changes no label.
        encoder: the encoder's options.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: Annotated[str, Field(pattern=r"\{\}")] = "{}"
    steepness: Annotated[float, Field(gt=0, le=100)] = 15.0
    encoder: Mapping[str, Any] = {}


class ZeroShotEmbedding:
    """Compares a text with labels by an encoder; files: see ``open_encoder``."""

    _options: Options
    _encoder: Encoder

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the encoder."""
        self._options = Options.model_validate(options)
        self._encoder = open_encoder(files, self._options.encoder)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Embeds texts and labels of all jobs together. Labels are not kept for the next job: another tenant's would show in its timing."""
        texts = [[value.text, *(self._options.template.replace("{}", label.strip()) for label in value.labels)] for value in inputs]
        jobs = self._encoder.embed_jobs(texts, run)
        return [CanceledByUser() if embedded is None else self._result(value, embedded) for value, embedded in zip(inputs, jobs, strict=True)]

    def unload(self) -> None:
        """Lets the encoder go."""
        del self._encoder

    def _result(self, value: Input, embedded: Embedded) -> Inference:
        text, labels = embedded.vectors[0], embedded.vectors[1:]
        scores = dict(zip(value.labels, softmax(self._options.steepness * (labels @ text)), strict=True))
        return Inference(Output(label=max(scores, key=scores.__getitem__), scores=scores), embedded.usage)
