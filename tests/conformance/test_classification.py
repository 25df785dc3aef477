"""``image.classification`` by each of its models, on photographs."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.conformance.harness import Loaded
from tests.fixtures.samples import picture

TASK = "image.classification"  # every model of this task is tested


@pytest.mark.parametrize(("name", "among"), [("cat", {"tabby, tabby cat", "tiger cat", "Egyptian cat"}), ("coffee", {"espresso"})])
def test_photograph_is_named(loaded: Loaded, store_dir: Path, name: str, among: set[str]) -> None:
    output = loaded.seen(picture(store_dir, name), top_k=3)
    found = [candidate["label"] for candidate in output["labels"]]
    scores = [candidate["score"] for candidate in output["labels"]]
    assert set(found[: len(among)]) == among
    assert (output["label"], output["score"]) == (found[0], scores[0])
    assert scores == sorted(scores, reverse=True)
    assert len(found) == 3


def test_scores_of_all_that_are_given_are_at_most_one_in_sum(loaded: Loaded, store_dir: Path) -> None:
    output = loaded.seen(picture(store_dir, "cat"), top_k=100)
    assert 0.9 < sum(candidate["score"] for candidate in output["labels"]) <= 1.0 + 1e-3


def test_photograph_on_its_side_is_named_by_what_its_camera_noted(loaded: Loaded, store_dir: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    written = io.BytesIO()
    with Image.open(io.BytesIO(picture(store_dir, "cat"))) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(written, "PNG", exif=exif)
    assert loaded.seen(written.getvalue()) == loaded.seen(picture(store_dir, "cat"))
