"""What a run took, in tokens."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one run of one job took; 0 where the model has none."""

    input_tokens: int = 0
    output_tokens: int = 0
