"""Voice activity by Silero VAD: how likely it is, 31 times a second, that somebody speaks, and the stretches that follow from it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import CanceledByUser, InferenceError
from domain.task_types.audio_voice_activity import Input, Output, Segment
from workers.backends.base import Inference, Run
from workers.onnx_session import open_session
from workers.sounds import RATE, read_sound
from workers.turns import one_by_one

WINDOW = 512  # samples that the model judges at a time: 32 ms
CONTEXT = 64  # samples before the window that it is shown again
STATE = (2, 1, 128)
ASK_EVERY = 1_000  # windows between two looks whether the job is still wanted: about 0.2 s of work


class Options(BaseModel):
    """What the catalogue may say about the model. The numbers are those that Silero's authors use.

    Attributes:
        max_s: a longer recording is refused.
        threshold: speech begins where it is as likely as this …
        end_threshold: … and ends where it has been less likely than this …
        min_silence_s: … for so long.
        min_speech_s: shorter stretches are coughs.
        pad_s: what a stretch is lengthened by at both ends, up to half of the silence there.
        threads: of one child.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_s: Annotated[float, Field(gt=0, le=36_000)] = 3_600.0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    end_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.35
    min_silence_s: Annotated[float, Field(ge=0, le=60)] = 0.1
    min_speech_s: Annotated[float, Field(ge=0, le=60)] = 0.25
    pad_s: Annotated[float, Field(ge=0, le=10)] = 0.03
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class SileroVad:
    """Files: ``model`` (ONNX; takes ``input``, ``state`` and ``sr``)."""

    _options: Options
    _session: onnxruntime.InferenceSession

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the model and runs a window of silence."""
        self._options = Options.model_validate(options)
        self._session = open_session(files["model"], threads=self._options.threads)
        list(self._likelihoods(np.zeros(WINDOW, np.float32), lambda: False))

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Goes through one recording after the other: each window depends on what came before it."""
        return one_by_one(len(inputs), run, lambda job: self._find(job, run))

    def unload(self) -> None:
        """Closes the session."""
        del self._session

    def _find(self, job: int, run: Run) -> Inference:
        sound = read_sound(run.blobs[job]["audio"], max_s=self._options.max_s)
        likelihoods = self._likelihoods(sound.floats, lambda: run.should_stop(job))
        found = [Segment(start_s=round(start_s, 3), end_s=round(end_s, 3)) for start_s, end_s in stretches(likelihoods, sound.duration_s, self._options)]
        return Inference(Output(segments=found, speech_s=round(sum(segment.end_s - segment.start_s for segment in found), 3)))

    def _likelihoods(self, samples: NDArray[np.float32], should_stop: Callable[[], bool]) -> Iterator[float]:
        state = np.zeros(STATE, np.float32)
        rate = np.array(RATE, np.int64)
        padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples, np.zeros(-len(samples) % WINDOW, np.float32)])
        for number, start in enumerate(range(0, len(padded) - CONTEXT, WINDOW)):
            if number % ASK_EVERY == ASK_EVERY - 1 and should_stop():
                raise CanceledByUser
            window = padded[None, start : start + CONTEXT + WINDOW]
            likelihood, state = self._session.run(None, {"input": window, "state": state, "sr": rate})
            yield float(likelihood[0, 0])


def stretches(likelihoods: Iterable[float], duration_s: float, options: Options) -> list[tuple[float, float]]:
    """Where speech begins and ends, in seconds.

    Args:
        likelihoods: of speech, of each window of 32 ms.
        duration_s: of the recording; nothing ends after it.
        options: the thresholds.

    Returns:
        In order; none touches the next.
    """
    step_s = WINDOW / RATE
    found: list[tuple[float, float]] = []
    start_s: float | None = None
    quiet_since_s: float | None = None
    for number, likelihood in enumerate(likelihoods):
        now_s = number * step_s
        if likelihood >= options.threshold:
            start_s = now_s if start_s is None else start_s
            quiet_since_s = None
        elif start_s is not None and likelihood < options.end_threshold:
            quiet_since_s = now_s if quiet_since_s is None else quiet_since_s
            if now_s + step_s - quiet_since_s > options.min_silence_s:
                found.append((start_s, quiet_since_s))
                start_s = quiet_since_s = None
    if start_s is not None:
        found.append((start_s, duration_s if quiet_since_s is None else quiet_since_s))
    return _padded([(start, end) for start, end in found if end - start >= options.min_speech_s], duration_s, options.pad_s)


def _padded(found: Sequence[tuple[float, float]], duration_s: float, pad_s: float) -> list[tuple[float, float]]:
    ends = [0.0, *(end for _, end in found)]
    starts = [*(start for start, _ in found), duration_s]
    gaps = [start - end for end, start in zip(ends, starts, strict=True)]
    last = len(found) - 1
    return [
        (
            start - min(pad_s, gaps[number] if number == 0 else gaps[number] / 2.1),
            min(duration_s, end + min(pad_s, gaps[number + 1] if number == last else gaps[number + 1] / 2.1)),
        )
        for number, (start, end) in enumerate(found)
    ]
