"""Transcription by Whisper, run by faster-whisper (CTranslate2, int8)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from faster_whisper import WhisperModel
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, InferenceError, UnsupportedLanguage
from domain.task_types.audio_transcription import Input, Output, Segment
from workers.backends.base import Inference, Run
from workers.sounds import RATE, Sound, read_sound
from workers.turns import one_by_one


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_s: a longer recording is refused.
        beam: how many readings are followed at once: 1 is twice as fast as Whisper's usual 5, and a little worse.
        threads: of one child.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_s: Annotated[float, Field(gt=0, le=36_000)] = 600.0
    beam: Annotated[int, Field(ge=1, le=10)] = 5
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class FasterWhisper:
    """Files: ``config``, ``tokenizer``, ``vocabulary``, and ``model`` as CTranslate2 has them; or ``part1``, ``part2``, … of the model.

    The parts are joined in memory: the model is read from there, so nothing is written twice. A recording is a batch of its own (windows
    of 30 s), and takes so long that nothing is won by running two together.
    """

    _options: Options
    _model: WhisperModel

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the model, and runs half a second of silence, so that the first job does not pay for it."""
        self._options = Options.model_validate(options)
        parts = [files["model"]] if "model" in files else [files[name] for name in sorted(files) if name.startswith("part")]
        contents: dict[str, Any] = {files[name].name: files[name].read_bytes() for name in ("config", "tokenizer", "vocabulary")}
        contents["model.bin"] = b"".join(part.read_bytes() for part in parts)
        self._model = WhisperModel("whisper", device="cpu", compute_type="int8", cpu_threads=self._options.threads, files=contents)
        list(self._model.transcribe(np.zeros(RATE // 2, np.float32), language="en", beam_size=1)[0])

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Transcribes one recording after the other; watchers read along, sentence by sentence."""
        return one_by_one(len(inputs), run, lambda job: self._transcribe(job, inputs[job], run))

    def unload(self) -> None:
        """Forgets the model."""
        del self._model

    def _transcribe(self, job: int, value: Input, run: Run) -> Inference:
        if value.language is not None and value.language not in self._model.supported_languages:
            raise UnsupportedLanguage(f"the model does not know the language {value.language}; it knows {', '.join(sorted(self._model.supported_languages))}")
        sound = read_sound(run.blobs[job]["audio"], max_s=self._options.max_s)
        found, about = self._model.transcribe(
            sound.floats,
            language=value.language,
            beam_size=self._options.beam,
            condition_on_previous_text=False,  # a mistake would be repeated to the end
            vad_filter=True,  # Whisper makes up words where nobody speaks
        )
        segments: list[Segment] = []
        for piece in found:
            if run.should_stop(job):
                raise CanceledByUser
            segments.append(_segment(piece, sound))
            run.emit_text(job, ("" if len(segments) == 1 else " ") + segments[-1].text)
            run.emit_progress(job, round(segments[-1].end_s), round(sound.duration_s))
        text = " ".join(segment.text for segment in segments)
        return Inference(Output(text=text, language=about.language, duration_s=sound.duration_s, segments=segments))


def _segment(piece: Any, sound: Sound) -> Segment:
    """A segment within the recording: Whisper counts in steps of 20 ms and may go past the end."""
    start_s = min(max(0.0, float(piece.start)), sound.duration_s)
    return Segment(start_s=round(start_s, 3), end_s=round(min(max(start_s, float(piece.end)), sound.duration_s), 3), text=piece.text.strip())
