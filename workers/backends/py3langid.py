"""Language identification by langid.py's method (naive Bayes over byte n-grams) with the model that py3langid carries inside its package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier
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


class Py3Langid:
    """Runs the identifier; the micro-batch is a loop, since a text takes a tenth of a millisecond."""

    _identifier: LanguageIdentifier
    _options: Options

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # the weights are inside the package
        """Unpacks the model."""
        self._options = Options.model_validate(options)
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Identifies the language of each text."""
        return [CanceledByUser() if run.should_stop(job) else Inference(self._identify(value.text)) for job, value in enumerate(inputs)]

    def unload(self) -> None:
        """Forgets the model."""
        del self._identifier

    def _identify(self, text: str) -> Output:
        ranked = self._identifier.rank(text.strip()[: self._options.max_chars])[:MAX_CANDIDATES]
        found = [Candidate(language=language, confidence=min(1.0, float(score))) for language, score in ranked]
        return Output(language=found[0].language, confidence=found[0].confidence, candidates=found)
