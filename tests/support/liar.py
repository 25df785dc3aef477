"""A backend that answers well, but wrong: what consensus is for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.failures import InferenceError
from domain.task_types.debug_echo import Input
from workers.backends.base import Inference, Run
from workers.backends.echo import Echo


class Liar(Echo):
    """Echoes what its options say, in the place of the payload."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        super().load({}, files)
        self._says = options["says"]

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return super().infer([value.model_copy(update={"payload": self._says}) for value in inputs], run)
