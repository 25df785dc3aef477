"""``image.ocr`` by each of its models, on a photographed page and on a page without text."""

import io
from pathlib import Path

import pytest
from PIL import Image

from domain.failures import InvalidImage
from tests.conformance.harness import Loaded
from tests.fixtures.samples import picture
from workers.backends.base import Inference

TASK = "image.ocr"  # every model of this task is tested
PRINTED = (
    "region-based segmentation",
    "let us first determine markers of the coins and the",
    "background. these markers are pixels that we can label",
    "unambiguously as either object or background. here,",
    "the markers are found at the two extreme parts of the",
    "histogram of grey values:",
)


def _png(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def test_photographed_page_is_read_line_by_line(loaded: Loaded, store_dir: Path) -> None:
    output = loaded.seen(picture(store_dir, "page"))
    lines = [line["text"].lower() for line in output["lines"]]
    assert lines[: len(PRINTED)] == list(PRINTED)
    assert output["text"].split("\n") == [line["text"] for line in output["lines"]]
    tops = [min(corner["y"] for corner in line["box"]) for line in output["lines"]]
    assert tops == sorted(tops)
    assert all(0 <= corner["x"] <= 384 and 0 <= corner["y"] <= 191 for line in output["lines"] for corner in line["box"])
    assert all(line["confidence"] > 0.9 for line in output["lines"])


def test_empty_page_has_no_text(loaded: Loaded) -> None:
    assert loaded.seen(_png(Image.new("L", (200, 100), "white"))) == {"text": "", "lines": []}


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1)])
def test_tiniest_images_are_served(loaded: Loaded, size: tuple[int, int]) -> None:
    assert loaded.seen(_png(Image.new("L", size)))["text"] == ""


def test_long_strip_is_refused_before_it_is_scaled_up(loaded: Loaded) -> None:
    refused, served = loaded.on(_png(Image.new("L", (40_000, 2))), _png(Image.new("L", (40, 20))))
    assert isinstance(refused, InvalidImage)
    assert isinstance(served, Inference)
