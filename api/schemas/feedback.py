"""What feedback on a job looks like, and the report of a model."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from api.schemas.catalogue import UsdText
from api.schemas.shape import Shape

MAX_NOTE_CHARS = 2_000


class FeedbackRequest(Shape):
    """What to say of an output: a score, the correct output, or both."""

    score: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="0 (useless) to 1 (perfect); left out, it is how far the output agrees with the correct one."
    )
    correct_output: Any = Field(default=None, description="What the output should have been, by the task's contract.")
    note: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NOTE_CHARS)] | None = None


class Feedback(BaseModel):
    """What was said of a job's output."""

    object: Literal["feedback"]
    job_id: str
    model: str = Field(description="The model that gave the output, and that the score counts for.")
    score: float
    score_source: Literal["given", "compared"] = Field(description="`compared`: how far the output agrees with the correct one.")
    correct_output: Any | None
    note: str | None
    created_at: datetime
    updated_at: datetime
    urls: Mapping[str, str]


class ReportLatency(BaseModel):
    """How long successful runs took, with whatever ran together with them."""

    samples: int
    run_p50_ms: float
    run_p95_ms: float


class ReportQuality(BaseModel):
    """What your feedback says of outputs of those days."""

    mean_score: float
    scores: int


class ReportShadow(BaseModel):
    """What a model on trial did in the shadow of your jobs; you saw and paid nothing of it."""

    jobs: int = Field(description="That were given to it too, and succeeded or failed.")
    compared: int = Field(description="Those with two outputs that can be compared.")
    agreement: float | None = Field(description="Of the compared ones, 0 to 1 on average; texts by their words.")
    failed: int = Field(description="Those that it gave no output for, in time.")
    primary_failed: int = Field(description="Those that the models which were to answer gave no output for.")
    run_p50_ms: float | None = Field(description="Where both gave an output.")
    primary_run_p50_ms: float | None = Field(description="Of the models that answered.")
    cost_usd: UsdText
    primary_cost_usd: UsdText


class ReportFigures(BaseModel):
    """What a model did for you."""

    jobs: int = Field(description="That ended with a run of this model.")
    runs: int = Field(description="That ended: every attempt, and each run after which a job was tried again.")
    errors: Mapping[str, int] = Field(description="Runs that failed, by code.")
    latency: ReportLatency | None
    input_tokens: int
    output_tokens: int
    cost_usd: UsdText
    quality: ReportQuality | None = Field(description="Null without feedback.")
    shadow: ReportShadow | None = Field(description="Null where it was not on trial.")


class ReportDay(ReportFigures):
    """What a model did for you on one day (UTC)."""

    day: date


class ModelReport(BaseModel):
    """What a model did for you lately; nobody else's jobs count."""

    object: Literal["model_report"]
    model: str
    total: ReportFigures
    days: Sequence[ReportDay] = Field(description="The oldest first; days on which nothing happened are left out.")
