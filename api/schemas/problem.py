"""What every refusal looks like: problem details by RFC 9457; and its likeness, why a job has no result."""

from pydantic import BaseModel, Field


class JobError(BaseModel):
    """Why a job has no result."""

    code: str
    message: str
    retryable: bool


class FieldProblem(BaseModel):
    """One thing wrong with one field."""

    pointer: str = Field(description="Where: a JSON Pointer (RFC 6901) into the body, or `/name` for a query parameter.")
    code: str
    message: str


class Problem(BaseModel):
    """Why a request was not served."""

    type: str = Field(description="Where the code is explained.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path of the request.")
    code: str = Field(description="Stable; one of the closed list.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    request_id: str = Field(description="Finds the request in the logs; also in `X-Request-Id`.")
    retry_after_s: float | None = Field(default=None, description="When to try again; also in `Retry-After`.")
    errors: list[FieldProblem] | None = Field(default=None, description="Every field that is wrong, a hundred at most.")
