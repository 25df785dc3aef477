"""A backend that answers well, but wrong: what consensus is for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.failures import InferenceError, InvalidOutput
from domain.task_types.debug_echo import Input
from domain.usage import Usage
from workers.backends.base import Inference, Run
from workers.backends.echo import Echo


class Misfit(Echo):
    """Gives what does not keep the contract."""

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return [InvalidOutput("it does not keep the contract", usage=Usage(output_tokens=3)) for _ in inputs]


class Liar(Echo):
    """Echoes what its options say, in the place of the payload."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        super().load({}, files)
        self._says = options["says"]

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return super().infer([value.model_copy(update={"payload": self._says}) for value in inputs], run)
