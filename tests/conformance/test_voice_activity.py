"""``audio.voice_activity`` by each of its models, on Dickens read aloud with silence around it."""

from pathlib import Path

import pytest

from tests.conformance.harness import Loaded
from tests.fixtures.samples import reading, wav

TASK = "audio.voice_activity"  # every model of this task is tested
RATE = 48_000  # of the recording
WAV_HEADER_BYTES = 44


def test_speech_is_found_and_silence_is_not(loaded: Loaded, store_dir: Path) -> None:
    speech = reading(store_dir, first_s=5.0)[WAV_HEADER_BYTES:]  # it begins after 1.2 s
    silence = bytes(3 * RATE * 2)
    output = loaded.seen(wav(silence + speech + silence, rate=RATE))
    assert output["segments"][0]["start_s"] == pytest.approx(4.2, abs=0.2)
    assert 7.5 < output["segments"][-1]["end_s"] < 8.2
    assert output["speech_s"] == pytest.approx(3.4, abs=0.4)
    assert output["speech_s"] == pytest.approx(sum(segment["end_s"] - segment["start_s"] for segment in output["segments"]), abs=0.01)


def test_silence_alone_has_no_speech(loaded: Loaded) -> None:
    assert loaded.seen(wav(bytes(32_000))) == {"segments": [], "speech_s": 0.0}
