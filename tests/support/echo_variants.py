"""Backends for fault tests: the echo, slower, or with a promise taken out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from domain.failures import InferenceError
from domain.task_types.debug_echo import Input
from models.prepared import Prepared
from models.queries import finish
from workers.backends.base import Inference, Run
from workers.backends.echo import Echo


class SlowEcho(Echo):
    """Takes four times as long as was asked for."""

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return super().infer([value.model_copy(update={"delay_ms": 4 * value.delay_ms}) for value in inputs], run)


class OnceLoadedEcho(Echo):
    """Loads in the first child, and never again; ``mark`` of the options is the file by which the others know."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        super().load({}, files)
        Path(str(options["mark"])).touch(exist_ok=False)


class UnfencedEcho(Echo):
    """Takes the fence out of every statement by which its process ends a job, and does not look at stop flags: shows what fences are for."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        super().load(options, files)
        for name in ("_FINISH", "_FINISH_CHILDREN", "_RETURN", "_MOVE"):
            setattr(finish, name, without(getattr(finish, name), *FENCE))

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        return super().infer(inputs, replace(run, should_stop=lambda _: False))


FENCE = (" AND v.fence = jobs.fence", " AND jobs.fence = held.fence")


def without(query: Prepared, *guards: str) -> Prepared:
    """The query with some of its guards taken out."""
    text = query.sql
    for guard in guards:
        assert guard in text, guard
        text = text.replace(guard, "")
    return Prepared(f"{query.name}_unguarded", text)
