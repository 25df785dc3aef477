"""The base of every request's shape."""

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A strict request: unknown fields are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, title=None)
