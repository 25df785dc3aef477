"""A task type with binary inputs, and a backend that says what it got: the platform's side of files, without a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.contracts import AudioInput, Contract, Example, ImageInput
from domain.errors import InferenceError
from workers.backends.base import Inference, Run


class Input(Contract):
    """What to look at."""

    image: ImageInput | None = None
    sound: AudioInput | None = None


class Output(Contract):
    """What was seen."""

    bytes: int
    content_type: str
    file_id: str | None = None


EXAMPLES: tuple[Example, ...] = ()


class Sight:
    """Counts the bytes of the image."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None: ...

    def unload(self) -> None: ...

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return [Inference(Output(bytes=len(blobs["image"].content), content_type=blobs["image"].content_type)) for blobs in run.blobs]
