"""``text.language`` by each of its models, on the Universal Declaration of Human Rights in 24 languages (see ``tests.fixtures.samples``)."""

from pathlib import Path

from tests.conformance.harness import Loaded
from tests.fixtures.samples import DECLARATION, articles

TASK = "text.language"  # every model of this task is tested


def test_articles_are_told_by_their_language(loaded: Loaded, store_dir: Path) -> None:
    texts = [(language, articles(store_dir, language)[0]) for language in DECLARATION]
    outputs = [loaded.one({"text": text}).output.model_dump() for _, text in texts]
    right = [output["confidence"] for output, (language, _) in zip(outputs, texts, strict=True) if output["language"] == language]
    assert len(right) >= 0.95 * len(texts), "measured: 23 of 24 and 24 of 24"
    assert sum(confidence > 0.5 for confidence in right) >= 0.9 * len(texts)
    for output in outputs:
        assert output["candidates"][0] == {"language": output["language"], "confidence": output["confidence"]}
        confidences = [candidate["confidence"] for candidate in output["candidates"]]
        assert confidences == sorted(confidences, reverse=True)


def test_text_of_many_lines_is_read_past_the_first(loaded: Loaded, store_dir: Path) -> None:
    assert loaded.one({"text": "\n\n\r\n" + "\n".join(articles(store_dir, "it"))}).output.model_dump()["language"] == "it"


def test_capitals_do_not_matter(loaded: Loaded, store_dir: Path) -> None:
    assert loaded.one({"text": articles(store_dir, "de")[0].upper()}).output.model_dump()["language"] == "de"
