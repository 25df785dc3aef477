"""Transcription by CMU PocketSphinx: English, small, and poor; the package carries its models."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

from pocketsphinx import Decoder, Segmenter
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, InferenceError, UnsupportedLanguage
from domain.task_types.audio_transcription import Input, Output, Segment
from workers.backends.base import Inference, Run
from workers.sounds import RATE, read_sound
from workers.turns import one_by_one

LANGUAGE = "en"
# One pass, and few guesses kept at a time: half of the time for 4 more words in a hundred wrong (38 in place of 34, on 44 s of Dickens).
QUICK: Mapping[str, Any] = {"fwdflat": False, "maxhmmpf": 3_000, "maxwpf": 20}


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_s: a longer recording is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_s: Annotated[float, Field(gt=0, le=36_000)] = 600.0


class Pocketsphinx:
    """Runs PocketSphinx over each stretch of speech that its own voice detector finds."""

    _options: Options
    _decoder: Decoder

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # the models are inside the package
        """Reads the models."""
        self._options = Options.model_validate(options)
        self._decoder = Decoder(samprate=RATE, loglevel="FATAL", **QUICK)

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Transcribes one recording after the other."""
        return one_by_one(len(inputs), run, lambda job: self._transcribe(job, inputs[job], run))

    def unload(self) -> None:
        """Forgets the models."""
        del self._decoder

    def _transcribe(self, job: int, value: Input, run: Run) -> Inference:
        if value.language not in {None, LANGUAGE}:
            raise UnsupportedLanguage(f"the model knows English alone, not {value.language}")
        sound = read_sound(run.blobs[job]["audio"], max_s=self._options.max_s)
        segments: list[Segment] = []
        for speech in Segmenter(sample_rate=RATE).segment(BytesIO(sound.samples.tobytes())):
            if run.should_stop(job):
                raise CanceledByUser
            text = self._heard(speech.pcm)
            if text:
                end_s = min(speech.end_time, sound.duration_s)
                segments.append(Segment(start_s=round(min(speech.start_time, end_s), 3), end_s=round(end_s, 3), text=text))
                run.emit_text(job, ("" if len(segments) == 1 else " ") + text)
            run.emit_progress(job, round(speech.end_time), round(sound.duration_s))
        text = " ".join(segment.text for segment in segments)
        return Inference(Output(text=text, language=LANGUAGE, duration_s=sound.duration_s, segments=segments))

    def _heard(self, pcm: bytes) -> str:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return str(found.hypstr) if found else ""
