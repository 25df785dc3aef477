"""Says what an image shows: the likeliest of the classes that the model knows."""

from typing import Annotated

from pydantic import Field

from domain.agreement.labels import LabelVote
from domain.contracts import Contract, Example, ImageInput, Probability

MAX_LABELS = 100


class Input(Contract):
    """One image, and how many labels to give."""

    image: ImageInput
    top_k: Annotated[int, Field(ge=1, le=MAX_LABELS)] = 5


class Candidate(Contract):
    """One class that the image may show."""

    label: str
    score: Probability


class Output(Contract):
    """The likeliest label, its score, and the `top_k` likeliest, the likeliest first; the scores of all classes sum to 1."""

    label: str
    score: Probability
    labels: Annotated[list[Candidate], Field(min_length=1, max_length=MAX_LABELS)]


# JPEG, 96 × 64 pixels: the cat Chelsea (by Stéfan van der Walt, CC0).
_CAT = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06k"
    "bl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCABAAGADASIAAhEBAxEB/8QAGQAAAwEBAQAAAAAAAAAAAAAAAQMEAgUA/8QAKhAA"
    "AgICAgEEAgEEAwAAAAAAAQIAAxEhEjEEE0FRYTJxgSIjQlKRocH/xAAXAQEBAQEAAAAAAAAAAAAAAAACAQAD/8QAGhEBAQEBAQEBAAAAAAAAAAAAAAERAiESMf/aAAwDAQACEQMRAD8A"
    "bagQEjqRcmsYDH8zp+RWBU/vqQ1Lw0SJz6deTAwQcAMxTPk47PwIWGND3+u57geOF7MOqUwAOW0fqbHTLgjPvMMjLg/cZbkIMHBJmYjhyoQg8uOiSOoKiwOQTxxjBlFqlWXGRzUg4i1U"
    "twQE4Zux+pmNpbn74MaxxqLrAAJ9x3C+ASzHWNfcsZL5P908R+I/7k/oD4lgw09wiF0PLcCojO5zrLANHbHoQ1l7gWsOzG0UV9jZ+TDfVhVa2ggPYcGN8hra/TSsrlzjJHU1eCNAfqKL"
    "GxQpwGU5U/8AhhJN5HkXUuALAxO8ESimweRxBHF0OSJN5FVfriyxihA6Ih8SwHzwQCARjcv6M3XQfDneiOjCEVVXWOJzBauG1DY2Ez3gZkJkcUewkgA9ZM0EDYzgj2M5dXO7ybDbnAGy"
    "ep0vFpIqQcsAjqKeUd1jyFWoZEXW4YSu7w/VH5yd/EurGtxoXWhRcA5xNAvVb/Qfy9oaWy5z7xlteR3OZFW22NooR9zIb/bEYjHPFyMxvpqw6E2KXW5Ghv6MnvUi0WD8gZUyqp0f+Yp1"
    "DqTv4wRCsNSz1NmDygUqyP8AIYMlofi5XOpT5TcqVAP7k9UsVVj8rGcDfHofzNNa5PI/wIArN9AdylaEsUYM6czXOpvWsByGMYL/ACSM4yIyzxlTBEoQAKBiPEcpCUsByJ0QAy9SGsB8"
    "HcvrI4iCFSbKARoD9wVMVOH39galDCLZczY2l2tkHPFv2J6kAE6wPo5nmGRFEMDow/K6n8+haGFteApOwfaa8atnX1HJCjofM01bWgK2xnqNKkAZbUVia1WoCZ+TmFMKxZSc/E1XWX0u"
    "hHpUtY63NEpDWmwqvuO5UgwNyP1UXySMZJlQZ/gAfZjF/9k="
)

EXAMPLES = (Example("A cat", {"image": {"base64": _CAT, "content_type": "image/jpeg"}, "top_k": 3}),)

COMPARATOR = LabelVote(lambda output: output.label)


def confidence(output: Output) -> float:
    """The score of the likeliest label."""
    return output.score
