"""What a backend is: ``load``, ``infer`` over a micro-batch, ``unload``.

A backend runs in one child process, one call at a time; ``infer`` need not be thread-safe. Import heavy runtimes at the
top of the backend's own module: only a child of the pool that runs it imports that module.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from domain.agreement.comparator import Embed
from domain.contracts import Blob, Contract, TaskContract
from domain.failures import InferenceError
from domain.usage import Usage


def _nowhere(_job: int, _content: bytes, _content_type: str) -> str:
    raise InferenceError("this worker has no place for files")


@dataclass(frozen=True, slots=True)
class Inference:
    """One result: an instance of the task's Output, and the tokens it took."""

    output: Contract
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Run:
    """What a backend may know of, and say to, the platform while it runs a micro-batch.

    Attributes:
        attempts: the attempt number of each input, 1 or more.
        should_stop: whether the job at an index is wanted no longer (canceled, or taken over); ask between steps.
        emit_text: tells watchers of the job at an index about a new piece of its output text (``output.delta``).
        emit_progress: tells watchers of the job at an index that ``done`` of ``total`` steps are through (``progress``).
        blobs: of each input its binary fields, resolved, by the field's name; of an input without such fields nothing.
        traceparents: of each input the trace context of whoever submitted it, for requests to other services (``domain.trace.continued``).
        save: stores an output of the job at an index as a file of its tenant: the content and its type; returns the ``file_id``.
    """

    attempts: Sequence[int]
    should_stop: Callable[[int], bool]
    emit_text: Callable[[int, str], None]
    emit_progress: Callable[[int, int, int], None]
    blobs: Sequence[Mapping[str, Blob]] = ()
    traceparents: Sequence[str | None] = ()
    save: Callable[[int, bytes, str], str] = _nowhere


class Backend(Protocol):
    """Code that runs a kind of model."""

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Makes the model ready; called once a child.

        Args:
            options: the model's ``options`` of the catalogue.
            files: local paths of the model's weights, by their names in the catalogue.

        Raises:
            Exception: whatever goes wrong; the worker then is not ready and claims nothing.
        """

    def infer(self, inputs: Sequence[Any], run: Run) -> Sequence[Inference | InferenceError]:
        """Runs a micro-batch.

        Args:
            inputs: 1 to ``max_batch_size`` instances of the task's Input.
            run: attempts, stop flags, and the way to say something meanwhile.

        Returns:
            One entry an input, in the order of the inputs: its result, or the error that concerns it alone.

        Raises:
            Exception: the whole micro-batch failed; its halves are run again until the culprit stands alone.
        """

    def unload(self) -> None:
        """Gives back what ``load`` took."""


@runtime_checkable
class TakesEmbedder(Protocol):
    """A backend that compares texts by meaning, if it can."""

    def take_embedder(self, embed: Embed) -> None:
        """Is lent a way to embed texts, which may find that it cannot; called before ``load``."""


@runtime_checkable
class TakesKey(Protocol):
    """A backend that may need a provider's key. Which one is said by ``key`` in the model's options; the key itself is in no catalogue."""

    def take_key(self, key: str) -> None:
        """Is given the key; called before ``load``, if the options name one that the settings hold."""


@runtime_checkable
class TakesContract(Protocol):
    """A backend that serves any task type whose contract fits what its model gives."""

    def take_contract(self, contract: TaskContract) -> None:
        """Is given the contract of the model's task; called before ``load``."""
