"""What the conformance tests run backends with: a loaded model, and a run that notes what the backend says."""

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.agreement.texts import words
from domain.agreement.word_errors import edits
from domain.catalogue import Catalogue, ModelSpec
from domain.contracts import Base64Input, Blob, Contract, TaskContract
from domain.failures import InferenceError
from domain.media import decode_base64, sniff
from weights.store import model_files
from workers.backends.base import Backend, Inference, Run, TakesContract


@dataclass
class Heard:
    """What a backend said while it ran."""

    text: dict[int, list[str]] = field(default_factory=dict)
    progress: list[tuple[int, int, int]] = field(default_factory=list)
    saved: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def save(self, _job: int, content: bytes, content_type: str) -> str:
        """Keeps a file that the backend makes, under an id that its content gives."""
        file_id = f"file_{hashlib.sha256(content).hexdigest()[:26]}"
        self.saved[file_id] = (content, content_type)
        return file_id


def wrong_words(said: str, heard: str) -> float:
    """How many words were missed, made up or mistaken, for each word that was said."""
    return edits(words(said), words(heard)) / len(words(said))


def blob_of(content: bytes) -> Blob:
    """Content as the platform hands it to a backend: of the type that it is."""
    return Blob(content, sniff(content) or "application/octet-stream")


def run_of(
    jobs: int,
    *,
    heard: Heard | None = None,
    should_stop: Callable[[int], bool] = lambda _: False,
    attempt: int = 1,
    blobs: Sequence[Mapping[str, Blob]] = (),
) -> Run:
    """The platform's side of a micro-batch of so many jobs."""
    ears = heard if heard is not None else Heard()
    return Run(
        attempts=[attempt] * jobs,
        should_stop=should_stop,
        emit_text=lambda job, piece: ears.text.setdefault(job, []).append(piece),
        emit_progress=lambda job, done, total: ears.progress.append((job, done, total)),
        blobs=blobs,
        save=ears.save,
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
        inputs = [self.read(value) for value in values]
        return self.backend.infer(inputs, run_of(len(values), blobs=[self._blobs(value) for value in inputs], **more))

    def on(self, *contents: bytes | Blob, **fields: Any) -> Sequence[Inference | InferenceError]:
        """One micro-batch of a task with one binary field: a job for each content, the other fields the same for all."""
        (name,) = self.contract.media
        values = [self.read({name: {"file_id": "file_x"}, **fields}) for _ in contents]
        blobs = [{name: content if isinstance(content, Blob) else blob_of(content)} for content in contents]
        return self.backend.infer(values, run_of(len(values), blobs=blobs))

    def seen(self, content: bytes, **fields: Any) -> dict[str, Any]:
        """The output of one job on this content, which must succeed."""
        (result,) = self.on(content, **fields)
        assert isinstance(result, Inference), result
        return result.output.model_dump()

    def _blobs(self, value: Contract) -> dict[str, Blob]:
        given = {name: getattr(value, name) for name in self.contract.media}
        contents = {name: decode_base64(form.base64) for name, form in given.items() if isinstance(form, Base64Input)}
        return {name: blob_of(content) for name, content in contents.items() if content is not None}

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
