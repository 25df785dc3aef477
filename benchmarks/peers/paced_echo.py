"""An echo that takes its time, as long for each job as its model's entry says: several of them are models of different speed."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.task_types.debug_echo import Input, Output
from domain.usage import Usage
from workers.backends.base import Inference, Run

BYTES_PER_TOKEN = 4


class PacedEcho:
    """Sleeps, then gives the payload back and counts it as tokens."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # there are no weights
        """Reads ``delay_ms``."""
        self._delay_s = float(options["delay_ms"]) / 1_000

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference]:  # noqa: ARG002
        """Echoes."""
        time.sleep(self._delay_s)
        return [Inference(Output(payload=value.payload), Usage(-(-len(str(value.payload)) // BYTES_PER_TOKEN), 0)) for value in inputs]

    def unload(self) -> None:
        """Has nothing to give back."""
