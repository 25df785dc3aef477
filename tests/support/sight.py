"""A task type with binary inputs, and a backend that says what it got: the platform's side of files, without a model."""

import os
import signal
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.catalogue import Catalogue, parse_catalogue
from domain.contracts import AudioInput, Contract, Example, ImageInput
from domain.failures import InferenceError
from workers.backends.base import Inference, Run


class Input(Contract):
    """What to look at."""

    image: ImageInput | None = None
    sound: AudioInput | None = None
    copies: bool = False
    dies: bool = False
    padding: int = 0


class Output(Contract):
    """What was seen."""

    bytes: int
    content_type: str
    file_id: str | None = None
    padding: str = ""


EXAMPLES: tuple[Example, ...] = ()


SIGHT_TOML = f"""
[tasks."test.sight"]
contract = "{__name__}"
default_model = "sight"
[models.sight]
task = "test.sight"
pool = "debug"
backend = "{__name__}:Sight"
version = "1"
max_batch_size = 4
"""


def sight_catalogue() -> Catalogue:
    """The project's catalogue, and this task."""
    return parse_catalogue(tomllib.loads((Path(__file__).parents[2] / "catalogue.toml").read_text(encoding="utf-8") + SIGHT_TOML))


class Sight:
    """Counts the bytes of the image, and gives a copy of it or a long output, or dies, if it is told to."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None: ...

    def unload(self) -> None: ...

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return [self._look(place, value, run) for place, value in enumerate(inputs)]

    def _look(self, place: int, value: Input, run: Run) -> Inference:
        image = run.blobs[place]["image"]
        file_id = run.save(place, image.content, image.content_type) if value.copies else None
        if value.dies and run.attempts[place] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return Inference(Output(bytes=len(image.content), content_type=image.content_type, file_id=file_id, padding="x" * value.padding))
