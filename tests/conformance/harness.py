"""What the conformance tests run backends with: a loaded model, and a run that notes what the backend says."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.catalogue import Catalogue, ModelSpec
from domain.contracts import Contract, TaskContract
from domain.errors import InferenceError
from weights.store import model_files
from workers.backends.base import Backend, Inference, Run, TakesContract


@dataclass
class Heard:
    """What a backend said while it ran."""

    text: dict[int, list[str]] = field(default_factory=dict)
    progress: list[tuple[int, int, int]] = field(default_factory=list)


def run_of(jobs: int, *, heard: Heard | None = None, should_stop: Callable[[int], bool] = lambda _: False, attempt: int = 1) -> Run:
    """The platform's side of a micro-batch of so many jobs."""
    ears = heard if heard is not None else Heard()
    return Run(
        attempts=[attempt] * jobs,
        should_stop=should_stop,
        emit_text=lambda job, piece: ears.text.setdefault(job, []).append(piece),
        emit_progress=lambda job, done, total: ears.progress.append((job, done, total)),
    )


@dataclass(frozen=True)
class Loaded:
    """A model and its backend, ready to run."""

    name: str
    spec: ModelSpec
    contract: TaskContract
    backend: Backend

    def read(self, value: Mapping[str, Any]) -> Contract:
        """An input as the platform hands it to the backend."""
        return self.contract.input.model_validate(value)

    def results(self, values: Sequence[Mapping[str, Any]], **more: Any) -> Sequence[Inference | InferenceError]:
        """One micro-batch."""
        return self.backend.infer([self.read(value) for value in values], run_of(len(values), **more))

    def one(self, value: Mapping[str, Any], **more: Any) -> Inference:
        """One job alone, which must succeed."""
        (result,) = self.results([value], **more)
        assert isinstance(result, Inference), result
        return result

    def refused(self, value: Mapping[str, Any]) -> InferenceError:
        """One job alone, which must fail."""
        (result,) = self.results([value])
        assert isinstance(result, InferenceError), result
        return result


def make_backend(dotted: str) -> Backend:
    """An instance of a backend by its dotted path, as the catalogue names it."""
    module, _, name = dotted.partition(":")
    backend: Backend = getattr(importlib.import_module(module), name)()
    return backend


def load(catalogue: Catalogue, name: str, store_dir: Path) -> Loaded:
    """Loads a model."""
    spec = catalogue.models[name]
    backend = make_backend(spec.backend)
    if isinstance(backend, TakesContract):
        backend.take_contract(catalogue.contracts[spec.task])
    backend.load(spec.options, model_files(name, spec, store_dir))
    return Loaded(name, spec, catalogue.contracts[spec.task], backend)
