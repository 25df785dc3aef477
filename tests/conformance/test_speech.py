"""``audio.speech`` by each of its models: a model of another task listens to it."""

from pathlib import Path

import pytest

from domain.catalogue import Catalogue
from domain.failures import UnsupportedInput
from tests.conformance.harness import Heard, Loaded, blob_of, load, wrong_words
from tests.fixtures.samples import articles
from workers.backends.base import Inference
from workers.sounds import read_sound

TASK = "audio.speech"  # every model of this task is tested
VOICES = {"pico": ["en-GB", "en-US", "de-DE", "es-ES", "fr-FR", "it-IT"]}
SENTENCE = "It was the best of times, it was the worst of times."


def _spoken(loaded: Loaded, text: str, **more: object) -> tuple[bytes, float]:
    heard = Heard()
    audio = loaded.one({"text": text, **more}, heard=heard).output.model_dump()["audio"]
    content, content_type = heard.saved[audio["file_id"]]
    assert content_type == audio["content_type"] == blob_of(content).content_type
    return content, audio["duration_s"]


def test_what_is_spoken_can_be_understood(loaded: Loaded, loaded_models: dict[str, Loaded], catalogue: Catalogue, store_dir: Path) -> None:
    listener = loaded_models.setdefault("whisper-base", loaded_models.get("whisper-base") or load(catalogue, "whisper-base", store_dir))
    article = next(article for article in articles(store_dir, "en") if "slavery" in article)
    content, duration_s = _spoken(loaded, article)
    output = listener.seen(content, language="en")
    assert wrong_words(article, output["text"]) <= 0.1
    assert output["duration_s"] == pytest.approx(duration_s, abs=0.05)


def test_each_voice_sounds_different_and_an_unknown_one_is_refused(loaded: Loaded) -> None:
    voices = VOICES[loaded.name]
    assert all(voice in loaded.spec.description for voice in voices)
    assert len({_spoken(loaded, "Radio 7.", voice=voice)[0] for voice in voices}) == len(voices)
    assert isinstance(loaded.refused({"text": "Hello.", "voice": "nobody"}), UnsupportedInput)


def test_long_text_takes_longer_and_tells_its_progress(loaded: Loaded) -> None:
    heard = Heard()
    loaded.one({"text": f"{SENTENCE} " * 10}, heard=heard)
    assert [done for _, done, _ in heard.progress] == list(range(1, 10))
    (content, content_type) = next(iter(heard.saved.values()))
    assert 20 < read_sound(blob_of(content), max_s=100).duration_s < 60
    assert content_type == "audio/wav"


def test_commands_to_the_engine_are_read_aloud_and_not_obeyed(loaded: Loaded) -> None:
    _, plain_s = _spoken(loaded, "hello")
    _, commanded_s = _spoken(loaded, '<speed level="500">hello</speed>')
    assert commanded_s > 2 * plain_s  # obeyed, it would be a third of it


@pytest.mark.parametrize("text", ["\U0001f642", "...", "\u202e\u200b", "水車", "\x07", "<>"])
def test_text_without_anything_to_speak_is_refused_or_short(loaded: Loaded, text: str) -> None:
    (result,) = loaded.results([{"text": text}])
    assert isinstance(result, UnsupportedInput) or (isinstance(result, Inference) and result.output.model_dump()["audio"]["duration_s"] < 10)
