"""What a job looks like that several models answer, and what a person may be asked about it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.schemas.problem import JobError
from api.schemas.shape import Shape
from domain.agreement.joining import LEAST_MODELS, MOST_MODELS, Decision
from domain.job import Status

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ConsensusRequest(Shape):
    """Which models answer, and how far they must agree."""

    models: Annotated[list[str], Field(min_length=LEAST_MODELS, max_length=MOST_MODELS)] | None = Field(default=None, description="Of the task; this or `n`.")
    n: Annotated[int, Field(ge=LEAST_MODELS, le=MOST_MODELS)] | None = Field(
        default=None, description="So many, those of the highest quality: the catalogue's figure, corrected by feedback."
    )
    min_agreement: Share = Field(
        default=0.8, description="The mean agreement of all answers with the leading one, its own included: for labels, its share of the votes."
    )
    on_disagreement: Literal["fail", "best", "review"] = Field(
        default="fail",
        description="Below that: the job fails (`no_agreement`), the answer of the best model is taken, or the job waits for a person (`/v1/reviews`).",
    )


class ChildUrls(BaseModel):
    """Where to go next."""

    self: str


class ChildBody(BaseModel):
    """A job that runs one model for another job; it is in no list, and tells no webhook."""

    id: str
    model: str
    status: Status
    error: JobError | None
    urls: ChildUrls


class Dissent(BaseModel):
    """An answer that was not taken."""

    model: str
    output: Any
    agreement: float = Field(description="With the answer that was taken; with the leading one where none was.")


class ChildFailure(BaseModel):
    """A model that gave no answer."""

    job_id: str
    model: str
    status: Status
    error: JobError | None


class ConsensusBody(BaseModel):
    """What was asked of the models, and how far they agree; null and empty until all of them have ended."""

    models: list[str]
    min_agreement: float
    on_disagreement: Literal["fail", "best", "review"]
    decision: Decision | None = Field(description="How the answer was found, or that there is none.")
    agreement: float | None = Field(description="Of all answers with the leading one, on average; null where fewer than two models answered.")
    model: str | None = Field(description="Whose answer is the output.")
    leader: str | None = Field(description="Whose answer most agree with.")
    method: str | None = Field(description="By which measure answers were compared.")
    answered: list[str]
    matrix: list[list[float]] = Field(description="How far each answer agrees with each, in the order of `answered`.")
    dissents: list[Dissent]
    failures: list[ChildFailure]


class ResolveRequest(Shape):
    """One of three."""

    accept: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(default=None, description="The answer of this model is the output.")
    output: dict[str, Any] | None = Field(default=None, description="This is the output; as the task's contract says.")
    reject: Annotated[str, Field(min_length=1, max_length=2_000)] | None = Field(default=None, description="None of them: the job fails, and this says why.")


class ReviewState(BaseModel):
    """What a person was asked, and said."""

    asked_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None = Field(description="The key that said so.")
    resolution: ResolveRequest | None


class ReviewAnswer(BaseModel):
    """What one model answered."""

    model: str
    output: Any
    agreement: float = Field(description="With the leading answer.")


class ReviewUrls(BaseModel):
    """Where to go next."""

    self: str
    job: str


class Review(ReviewState):
    """A job whose models disagree, and that waits, or waited, for a person."""

    object: Literal["review"]
    job_id: str
    task: str
    status: Status = Field(description="Of the job.")
    deadline_at: datetime = Field(description="The job expires then, unless it is resolved.")
    input: Any
    agreement: float | None
    leader: str | None
    answers: list[ReviewAnswer]
    urls: ReviewUrls


class ReviewList(BaseModel):
    """A page of open reviews, the newest job first."""

    data: list[Review]
    next_cursor: str | None
