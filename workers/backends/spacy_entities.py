"""Named entities by spaCy's transition-based recogniser: the network alone, without the rest of its pipeline."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import spacy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from spacy.language import Language
from spacy.tokens import Doc, Span

from domain.failures import CanceledByUser, InferenceError
from domain.task_types.text_entities import Entity, Input, Output
from domain.usage import Usage
from workers.backends.base import Inference, Run
from workers.sentences import sentence_spans

PIECES_PER_STEP = 32
PLACES = {  # where spaCy looks for what the catalogue calls by flat names
    "config": "config.cfg",
    "meta": "meta.json",
    "tokenizer": "tokenizer",
    "strings": "vocab/strings.json",
    "lookups": "vocab/lookups.bin",
    "ner-cfg": "ner/cfg",
    "ner-model": "ner/model",
    "ner-moves": "ner/moves",
}


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_tokens: of a longer text only the beginning is read, so that a job stays within seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: Annotated[int, Field(ge=64)] = 20_000


class SpacyEntities:
    """Runs the ``ner`` component of a spaCy pipeline that shares no layer with the others; files: see ``PLACES``."""

    _options: Options
    _language: Language
    _ner: Any
    _moves: dict[str, int]
    _outside: list[int]
    _inside: dict[str, list[int]]

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Lays the files out as spaCy wants them, and loads what recognises entities."""
        self._options = Options.model_validate(options)
        with tempfile.TemporaryDirectory(prefix="millpond-") as folder:
            for name, place in PLACES.items():
                link = Path(folder, place)
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(files[name].absolute())
            unneeded = [name for name in spacy.util.load_config(Path(folder, "config.cfg"))["components"] if name != "ner"]
            self._language = spacy.load(folder, exclude=unneeded)
        self._ner = self._language.get_pipe("ner")
        self._moves = {self._ner.moves.get_class_name(move): move for move in range(self._ner.moves.n_moves)}
        self._outside = [move for name, move in self._moves.items() if name[0] in "BUO" and name != "U-"]  # "U-" has no type and was never trained
        self._inside = {label: [self._moves[f"I-{label}"], self._moves[f"L-{label}"]] for label in self._ner.labels}

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Reads sentences of all texts together, so many at a time."""
        found: list[list[Entity]] = [[] for _ in inputs]
        read = [0] * len(inputs)
        stopped: set[int] = set()
        pieces = [(job, start, end) for job, value in enumerate(inputs) for start, end in sentence_spans(value.text)]
        for first in range(0, len(pieces), PIECES_PER_STEP):
            step = pieces[first : first + PIECES_PER_STEP]
            stopped.update(job for job in {job for job, _, _ in step} if run.should_stop(job))
            wanted = [piece for piece in step if piece[0] not in stopped and read[piece[0]] < self._options.max_tokens]
            docs = [self._language.make_doc(inputs[job].text[start:end]) for job, start, end in wanted]
            for (job, start, _), doc, entities in zip(wanted, docs, self._recognise(docs), strict=True):
                read[job] += len(doc)
                found[job] += [_moved(entity, start) for entity in entities]
        return [
            CanceledByUser() if job in stopped else Inference(Output(entities=entities), Usage(input_tokens=read[job])) for job, entities in enumerate(found)
        ]

    def unload(self) -> None:
        """Lets the pipeline go."""
        del self._language, self._ner

    def _recognise(self, docs: Sequence[Doc]) -> Iterator[list[Entity]]:
        """Takes the likeliest transition at each token, as spaCy does, and keeps how likely it was, which spaCy does not.

        spaCy's own way to probabilities, a beam, finds other and worse entities with weights that were trained without one.
        """
        if not docs:
            return
        network = self._ner.model.predict(docs)
        states = self._ner.moves.init_batch(docs)
        scores: dict[int, list[NDArray[np.float32]]] = {id(state): [] for state in states}
        going = [state for state in states if not state.is_final()]
        while going:
            rows = network.predict(going)
            for state, row in zip(going, rows, strict=True):
                scores[id(state)].append(row.copy())
            self._ner.transition_states(going, rows)
            going = [state for state in going if not state.is_final()]
        self._ner.set_annotations(docs, states)
        for doc, state in zip(docs, states, strict=True):
            yield [
                Entity(text=span.text, type=span.label_, start=span.start_char, end=span.end_char, confidence=self._confidence(span, scores[id(state)]))
                for span in doc.ents
            ]

    def _confidence(self, span: Span, scores: Sequence[NDArray[np.float32]]) -> float:
        """How likely the transitions that led to an entity were, each among those that were allowed there."""
        last = len(span) - 1
        confidence = 1.0
        for place in range(len(span)):
            shape = ("U" if place == last else "B") if place == 0 else ("L" if place == last else "I")
            allowed = self._inside[span.label_] if place else self._outside
            row = scores[span.start + place]
            confidence /= float(np.exp(row[allowed] - row[self._moves[f"{shape}-{span.label_}"]]).sum())
        return min(confidence, 1.0)


def _moved(entity: Entity, by: int) -> Entity:
    return entity.model_copy(update={"start": entity.start + by, "end": entity.end + by})
