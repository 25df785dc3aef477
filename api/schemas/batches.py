"""What a batch's request and answers look like."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from api.schemas.jobs import JobRequest, JobSummary, OutputFile
from api.schemas.problem import JobError
from api.schemas.shape import Shape
from domain.job import Status

MAX_JOBS = 10_000


class BatchJobRequest(JobRequest):
    """A job of a batch."""

    custom_id: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = Field(
        default=None, description="Your name for it, once in a batch; comes back with its result."
    )


class BatchRequest(Shape):
    """Jobs to take, all or none. As `application/x-ndjson`: one job a line."""

    jobs: Annotated[list[BatchJobRequest], Field(min_length=1, max_length=MAX_JOBS)]


class BatchUrls(BaseModel):
    """Where to go next."""

    self: str
    results: str
    cancel: str


class Batch(BaseModel):
    """Many jobs of one call."""

    id: str
    object: Literal["batch"]
    total: int
    counts: Mapping[Status, int] = Field(description="Jobs by status; what retention has removed is in no count.")
    created_at: datetime
    canceled_at: datetime | None = Field(description="When you first asked to cancel what was left.")
    finished_at: datetime | None = Field(description="When its last job ended; null until then.")
    urls: BatchUrls


class BatchResultLine(BaseModel):
    """One line of the results, in the order of the input."""

    custom_id: str | None
    job_id: str | None = Field(description="Null in a last line that says why the results break off.")
    status: Status | None
    output: Any | None
    output_file: OutputFile | None
    error: JobError | None


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    data: list[JobSummary]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")
