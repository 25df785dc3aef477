"""``audio.transcription`` by each of its models, on some nine seconds of Dickens read aloud."""

import math
from pathlib import Path

import numpy as np
import pytest

from domain.failures import CanceledByUser, UnsupportedLanguage
from tests.conformance.harness import Heard, Loaded, blob_of, run_of, wrong_words
from tests.fixtures.samples import READING_S, SAID, reading, wav
from workers.backends.base import Inference

TASK = "audio.transcription"  # every model of this task is tested
MOST_WRONG = {"whisper-base": 0.05, "pocketsphinx": 0.25}  # measured: 0 and 0.09


def test_reading_is_written_down(loaded: Loaded, store_dir: Path) -> None:
    heard = Heard()
    value = loaded.read({"audio": {"file_id": "file_x"}})
    (result,) = loaded.backend.infer([value], run_of(1, heard=heard, blobs=[{"audio": blob_of(reading(store_dir))}]))
    assert isinstance(result, Inference)
    output = result.output.model_dump()
    assert wrong_words(SAID, output["text"]) <= MOST_WRONG[loaded.name]
    assert output["language"] == "en"
    assert output["duration_s"] == pytest.approx(READING_S)
    assert output["text"] == " ".join(segment["text"] for segment in output["segments"]) == "".join(heard.text[0])
    times = [time for segment in output["segments"] for time in (segment["start_s"], segment["end_s"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= READING_S + 0.1
    assert heard.progress[-1][2] == 9


def test_silence_and_a_tone_have_no_words(loaded: Loaded) -> None:
    times = np.arange(2 * 16_000) / 16_000
    tone = (np.sin(times * 2 * math.pi * 440) * 8_000).astype("<i2").tobytes()
    for pcm in (bytes(32_000), tone):
        assert loaded.seen(wav(pcm), language="en")["text"] == ""


def test_unknown_language_is_refused_before_anything_is_decoded(loaded: Loaded) -> None:
    (refused,) = loaded.on(b"not read", language="xx")
    assert isinstance(refused, UnsupportedLanguage)  # so that a route asks the next model
    assert "xx" in refused.message


def test_canceled_recording_stops_before_its_end(loaded: Loaded, store_dir: Path) -> None:
    asked = 0

    def stop_at_the_second(_job: int) -> bool:
        nonlocal asked
        asked += 1
        return asked >= 2

    value = loaded.read({"audio": {"file_id": "file_x"}, "language": "en"})
    (result,) = loaded.backend.infer([value], run_of(1, should_stop=stop_at_the_second, blobs=[{"audio": blob_of(reading(store_dir, first_s=5.0))}]))
    assert isinstance(result, CanceledByUser)
