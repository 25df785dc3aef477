"""Gives its payload back, after a delay or a failure of your choice: for trying clients and for fault tests."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from domain.agreement.exact_json import ExactJson
from domain.contracts import Contract, Example


class Input(Contract):
    """What to echo, when, and how to fail first."""

    payload: JsonValue
    delay_ms: Annotated[int, Field(ge=0, le=600_000)] = 0
    fail: Literal["retryable", "fatal", "crash", "hang", "oom"] | None = None
    fail_attempts: Annotated[int, Field(ge=1, le=100)] | None = Field(default=None, description="Fail only the first n attempts; every attempt if left out.")


class Output(Contract):
    """The payload, unchanged."""

    payload: JsonValue


EXAMPLES = (
    Example("Echo", {"payload": {"hello": "mill"}}),
    Example("Fails once, then succeeds", {"payload": 1, "fail": "retryable", "fail_attempts": 1}),
)

COMPARATOR = ExactJson(lambda output: output.payload)


def confidence(output: Output) -> float:
    """What the payload says of it under `confidence`, from 0 to 1; sure of everything else."""
    said = output.payload.get("confidence") if isinstance(output.payload, dict) else None
    return min(1.0, max(0.0, float(said))) if isinstance(said, int | float) else 1.0
