"""Says whether an image is fit to be shown at work, or holds nudity."""

from typing import Literal

from domain.agreement.labels import LabelVote
from domain.contracts import Contract, Example, ImageInput, Probability

Label = Literal["safe", "nsfw"]


class Input(Contract):
    """One image."""

    image: ImageInput


class Output(Contract):
    """The likelier label, and the scores of both; they sum to 1. Set a threshold of your own on the scores where 0.5 is not yours."""

    label: Label
    scores: dict[Label, Probability]


# JPEG, 96 × 64 pixels: a cup of coffee (Pikolo Espresso Bar, by Rachel Michetti; no known restrictions).
_COFFEE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06k"
    "bl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCABAAGADASIAAhEBAxEB/8QAGgAAAwEBAQEAAAAAAAAAAAAAAgMEBQEABv/EACwQ"
    "AAIBAwIEBgICAwAAAAAAAAECAwARIQQxEkFRYQUTIjJxkUKBFKEjUvD/xAAYAQEBAQEBAAAAAAAAAAAAAAACAwEABP/EABwRAAMBAQEBAQEAAAAAAAAAAAABEQIhMSISQf/aAAwDAQAC"
    "EQMRAD8AwBRKCSAMmihheVrDbrWhBp0iGN+ZNT1pIrnD0Jg0mzSfVV4UWArzOPxz3qvwqJJZWkfIjFz81Hun0vFlcOQ+HSSASTsIk5A71Sui0oxxyn6FDNM0jliccqAagKfcK2oH0xre"
    "HRsP8Utj0cVHLFJC/BIvD071bHOrb/dUMi6mMxPvup6Gtifhy016ZGRtmjX5o5YREQvPnSmIoTpS1UarZxjvVEbfjbPWpEvveqIr3zWgZnApGgCiw68zXAGYXPpWnLCF9TZag1JIQDrW"
    "FPXBDNnG1aXgrg+fDf1OtxWVvRK8umlSRPS6nFJei2rmFUokmcqLhRiurohbN/urINTptdkMsOo/JG2J7U1tPKpyh/VDS0gLS8M/+O8XqjY43BrQ0Dl3UdP6ry6eQ7qQOpwKl1Wuh0sU"
    "kWmYSSkWZ12XsO9bi2sOmnxC5dSJ9XINvUQh61wC5uRmoVwBViShkBPu51zKPMQ1VN+tUIVta9SrJfsK4Tc4NjWomw7qTbi4iN8YFKm4XlVOzW+bU0CygXLHqaj17mB4ZuQatSrOTgpW"
    "4bnnypE05Hf5pkp4mxtuKkl91blFNuIYzF1DBTbrzoo9dqYxZNTIvbiNFLOU0/lIfS2bW2qHamkS05wv83UakEyTyyqu44jXVkKho+BUAxbn/wBih8LjWWRvNYhFtgC+9M8SiRJC8asg"
    "v6Qxya5oC0EKfCRzpEfsHW2aIMOMr0H91KdPXp/I1n3ttXQxBxSwCTn6pi4FcRLVQ2GP1Stfpf5Gldd3GRVMaBhYD908oAotvWgbPldPMtvJmPDb2seXY0U8JG4+D1q7xjwsi+ohGPyW"
    "sqPUSwgp7k/1YXqkvUctxRgEkG16G5pqmEtdyyj4vTOHTHaX7U0rAy/0DSzvppvMRQ2LEGngvPIXcG53LG5oRJpoxhmb4WgfVk4jXh7nJouvxCSxnrZTLKIFA3c7DpRaZTbOWOak00LS"
    "SXNyd7mtKJAik8VzsKLSXBfp6dOWsbfddF73NGovvQFrAmgI/9k="
)

EXAMPLES = (Example("A cup of coffee", {"image": {"base64": _COFFEE, "content_type": "image/jpeg"}}),)

COMPARATOR = LabelVote(lambda output: output.label)


def confidence(output: Output) -> float:
    """The score of the likelier label."""
    return max(output.scores.values())
