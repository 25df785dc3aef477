"""Reads the text that is on an image: a scan, a photograph of a page, a screenshot."""

from typing import Annotated

from pydantic import Field

from domain.agreement.word_errors import WordErrors
from domain.contracts import Contract, Example, ImageInput, Probability


class Input(Contract):
    """One image."""

    image: ImageInput


class Point(Contract):
    """A place on the image as a person sees it (turned as its EXIF data say): pixels from the left and from the top."""

    x: float
    y: float


class Line(Contract):
    """One line of text, how sure the model is of it, and where it stands: four corners, clockwise from the top left of the text."""

    text: str
    confidence: Probability
    box: Annotated[list[Point], Field(min_length=4, max_length=4)]


class Output(Contract):
    """All text, one line of the image a line of it, from top to bottom; empty where the image shows none."""

    text: str
    lines: list[Line]


# PNG, 190 × 40 pixels.
_THE_MILL_TURNS = (
    "iVBORw0KGgoAAAANSUhEUgAAAL4AAAAoAQAAAABoMH1uAAAAy0lEQVR42u2SPQrCQBBGX3TRCCkWq5Q5i6fwBNZWdkLAnMDSxjT2HkHs7CwFQRQEF2xSqGCixGKNG8Ug1vpVw775+WZY"
    "K+WtriUK9BMg/lQx9J/A2fJ0qEAZIKju6jp0v3AlUnkNAgWDuerPvGkG0k6y4HgCWnBKxstHRS++IMq6hS3c0AeEtiDx2QMg78klwCLKTbXZ+AWutsbuWeZB14DqJQ/aRa2c3OaH7HEN"
    "NAxwooKzV7YAKozdCbAyM8pNnSZrITACsP6f+lU3Dcwyjwh0nUoAAAAASUVORK5CYII="
)

EXAMPLES = (Example("A line of print", {"image": {"base64": _THE_MILL_TURNS, "content_type": "image/png"}}),)

COMPARATOR = WordErrors(lambda output: output.text)


def confidence(output: Output) -> float:
    """Of the least certain line; nothing seen is as sure as it gets."""
    return min((line.confidence for line in output.lines), default=1.0)
