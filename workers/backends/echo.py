"""No model at all: gives payloads back, late or failing as asked. For trying clients, for fault tests and for measuring the platform."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from domain.failures import CanceledByUser, InferenceError, InvalidInput, ModelError
from domain.task_types.debug_echo import Input, Output
from workers.backends.base import Inference, Run

STEP_S = 0.02  # how long a sleep goes on before the stop flags are asked


class Options(BaseModel):
    """The echo takes none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Echo:
    """Sleeps once for the longest delay of the micro-batch, as a model's run is as long as its longest input; then fails or answers."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # there are no weights
        """Has nothing to load."""
        Options.model_validate(options)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Echoes each payload.

        ``crash`` and ``hang`` take the whole process with them and ``oom`` the whole micro-batch, as the real things do;
        ``retryable`` and ``fatal`` concern their own job.

        Raises:
            MemoryError: a job asked for ``oom``.
        """
        _sleep_ms(max(value.delay_ms for value in inputs), len(inputs), run)
        stopped = [run.should_stop(job) for job in range(len(inputs))]
        failing = [None if stop else _fails(value, attempt) for value, attempt, stop in zip(inputs, run.attempts, stopped, strict=True)]
        if "crash" in failing:
            os.kill(os.getpid(), signal.SIGKILL)
        while "hang" in failing:
            time.sleep(60.0)  # deaf to every stop flag: only a kill ends it
        if "oom" in failing:
            raise MemoryError("debug.echo was asked to run out of memory")
        return [_answer(value, fail, stop=stop) for value, fail, stop in zip(inputs, failing, stopped, strict=True)]

    def unload(self) -> None:
        """Has nothing to give back."""


def _sleep_ms(delay_ms: int, jobs: int, run: Run) -> None:
    end = time.monotonic() + delay_ms / 1_000
    while (left_s := end - time.monotonic()) > 0 and not all(run.should_stop(job) for job in range(jobs)):
        time.sleep(min(STEP_S, left_s))


def _fails(value: Input, attempt: int) -> str | None:
    return value.fail if value.fail_attempts is None or attempt <= value.fail_attempts else None


def _answer(value: Input, fail: str | None, *, stop: bool) -> Inference | InferenceError:
    if stop:
        return CanceledByUser()
    if fail == "retryable":
        return ModelError("debug.echo was asked to fail in a way that may pass")
    if fail == "fatal":
        return InvalidInput("debug.echo was asked to fail for good")
    return Inference(Output(payload=value.payload))
