"""Speech by SVOX Pico, as py-nanotts packs it: six voices in five languages, small and fast, of the sound of 2009's telephones."""

import re
import wave
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

from py_nanotts import NanoTTS
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, InferenceError, UnsupportedInput
from domain.task_types.audio_speech import Audio, Input, Output
from workers.backends.base import Inference, Run
from workers.turns import one_by_one

VOICES = ("en-GB", "en-US", "de-DE", "es-ES", "fr-FR", "it-IT")
RATE = 16_000
BYTES_A_SAMPLE = 2
PIECE_CHARS = 500


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        voice: of a job that names none.
        speed: times the usual.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    voice: Literal["en-GB", "en-US", "de-DE", "es-ES", "fr-FR", "it-IT"] = "en-GB"
    speed: Annotated[float, Field(ge=0.5, le=2.0)] = 1.0


class Pico:
    """Speaks sentence by sentence, so that a job that is wanted no longer ends soon."""

    _options: Options
    _engine: NanoTTS

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # the voices are inside the package
        """Speaks a word, so that a package without its voices is noticed now."""
        self._options = Options.model_validate(options)
        self._engine = NanoTTS()
        if not self._spoken("warm", self._options.voice):
            raise ValueError("SVOX Pico is silent: its voices are missing")

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Speaks one text after the other."""
        return one_by_one(len(inputs), run, lambda job: self._speak(job, inputs[job], run))

    def unload(self) -> None:
        """Forgets the voices."""
        del self._engine

    def _speak(self, job: int, value: Input, run: Run) -> Inference:
        voice = value.voice or self._options.voice
        if voice not in VOICES:
            raise UnsupportedInput(f"there is no voice {voice[:64]}; there are {', '.join(VOICES)}")
        texts = list(sentences(value.text))
        samples: list[bytes] = []
        for number, text in enumerate(texts, start=1):
            if run.should_stop(job):
                raise CanceledByUser
            samples.append(self._spoken(text, voice))
            if number < len(texts):
                run.emit_progress(job, number, len(texts))
        pcm = b"".join(samples)
        if not pcm:
            raise UnsupportedInput("there is nothing in the text that the voice can speak")
        audio = Audio(file_id=run.save(job, as_wav(pcm), "audio/wav"), content_type="audio/wav", duration_s=len(pcm) / BYTES_A_SAMPLE / RATE)
        return Inference(Output(audio=audio))

    def _spoken(self, text: str, voice: str) -> bytes:
        return bytes(self._engine.speak(text, voice=voice, speed=self._options.speed))


def sentences(text: str) -> Iterator[str]:
    """Cuts a text into what is spoken at once: sentences, and pieces of at most 500 characters of longer ones.

    Angle brackets are left out: Pico takes what is between them for commands, of which one plays a file of this machine.
    """
    plain = re.sub(r"[<>\x00-\x1f\x7f]", " ", text)
    for sentence in re.split(r"(?<=[.!?…])\s+", plain):
        words = sentence.strip()
        while len(words) > PIECE_CHARS:
            cut = words.rfind(" ", 1, PIECE_CHARS)
            cut = cut if cut > 0 else PIECE_CHARS
            yield words[:cut]
            words = words[cut:].strip()
        if words:
            yield words


def as_wav(pcm: bytes) -> bytes:
    """A WAV file of one channel of 16-bit samples."""
    written = BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(BYTES_A_SAMPLE)
        file.setframerate(RATE)
        file.writeframes(pcm)
    return written.getvalue()
