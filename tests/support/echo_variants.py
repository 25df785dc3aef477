"""Backends for fault tests: the echo, slower, or with a promise taken out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from domain.failures import InferenceError
from domain.task_types.debug_echo import Input
from workers.backends.base import Inference, Run
from workers.backends.echo import Echo


class SlowEcho(Echo):
    """Takes four times as long as was asked for."""

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return super().infer([value.model_copy(update={"delay_ms": 4 * value.delay_ms}) for value in inputs], run)


class UnfencedEcho(Echo):
    """Takes the fence out of every statement by which its process ends a job, and does not look at stop flags: shows what fences are for."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        super().load(options, files)
        event.listen(Engine, "before_cursor_execute", _without_fence, retval=True)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return super().infer(inputs, replace(run, should_stop=lambda _: False))


def _without_fence(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _executemany: bool) -> tuple[str, Any]:
    return statement.replace("AND v.fence = jobs.fence", "").replace("AND jobs.fence = v.fence", ""), parameters
