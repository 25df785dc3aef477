"""What a run of a job would take, before anyone has run it; a price makes it money (``Price.cost_usd``)."""

from collections.abc import Mapping, Sequence
from typing import Any

from domain.usage import Usage

BYTES_PER_TOKEN = 4  # of UTF-8: about right for English, high for most other scripts, where tokens are shorter
_NOT_TEXT = frozenset({"base64", "url", "file_id", "content_type"})  # a binary input is no text, however it is given


def estimate_usage(job_input: Mapping[str, Any], *, max_tokens: int | None) -> Usage:
    """Tokens of a job, from the size of what it says.

    Input: the UTF-8 bytes of all its strings, divided by four and rounded up; names of fields and binary inputs do not count.
    Output: ``max_tokens`` where the task's contract has such a field (so for generation, where it is the most that can come), else as
    many as the input: what is translated or summarised is not longer by much. A model whose output costs nothing is not touched by that.

    Args:
        job_input: as the client sent it.
        max_tokens: the parsed input's ``max_tokens``, its default included; None where the contract knows none.
    """
    tokens = -(-_text_bytes(job_input) // BYTES_PER_TOKEN)
    return Usage(input_tokens=tokens, output_tokens=tokens if max_tokens is None else max_tokens)


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return sum(_text_bytes(item) for name, item in value.items() if name not in _NOT_TEXT)
    if isinstance(value, Sequence):
        return sum(_text_bytes(item) for item in value)
    return 0
