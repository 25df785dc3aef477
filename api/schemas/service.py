"""How the service describes itself."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field


class HealthBody(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class ReadinessBody(BaseModel):
    """Whether requests should be sent here."""

    status: Annotated[
        Literal["ready", "degraded", "unavailable"],
        Field(description="`degraded`: something is away, and work is accepted all the same; `unavailable` goes with 503."),
    ]
    checks: Annotated[Mapping[str, str], Field(description="One line for each dependency: `ok`, or what is wrong.")]
