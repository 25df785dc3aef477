"""``text.language`` by each of its models."""

import pytest

from tests.conformance.harness import Loaded

TASK = "text.language"  # every model of this task is tested

SENTENCES = {
    "en": "The mill wheel turns slowly in the cold water.",
    "fr": "Le moulin tourne grâce à l'eau de l'étang.",
    "de": "Das Mühlrad dreht sich langsam im kalten Wasser.",
    "es": "La rueda del molino gira despacio en el agua fría.",
    "it": "La ruota del mulino gira lentamente nell'acqua fredda.",
    "ru": "Мельничное колесо медленно вращается в холодной воде.",
    "ja": "水車は冷たい水の中でゆっくり回っています。",
    "ar": "تدور عجلة الطاحونة ببطء في الماء البارد.",
    "zh": "今天的天气很好，我们去公园散步。",
    "pt": "A roda do moinho gira devagar na água fria.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_sentence_is_told(loaded: Loaded, language: str) -> None:
    output = loaded.one({"text": SENTENCES[language]}).output.model_dump()
    assert output["language"] == language
    assert output["confidence"] > 0.5
    assert output["candidates"][0] == {"language": output["language"], "confidence": output["confidence"]}
    confidences = [candidate["confidence"] for candidate in output["candidates"]]
    assert confidences == sorted(confidences, reverse=True)


def test_text_of_many_lines_is_read_past_the_first(loaded: Loaded) -> None:
    assert loaded.one({"text": "\n\n\r\n" + "\n".join([SENTENCES["de"]] * 3)}).output.model_dump()["language"] == "de"


def test_capitals_do_not_matter(loaded: Loaded) -> None:
    assert loaded.one({"text": SENTENCES["de"].upper()}).output.model_dump()["language"] == "de"
