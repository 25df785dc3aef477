"""How queues look from outside."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from domain.job import Priority


class _Load(BaseModel):
    model_config = ConfigDict(frozen=True)

    queued: Annotated[int, Field(description="Jobs that wait, delayed ones included; counted in the database.")]
    delayed: Annotated[int, Field(description="Those of them that are not due yet: `not_before`, or waiting for a retry.")]
    running: int
    oldest_queued_s: Annotated[float, Field(description="How long the job that has waited longest has been due; 0 when none waits.")]
    arrival_per_s: Annotated[float, Field(description="Jobs accepted in the last minute, per second.")]


class LaneBody(_Load):
    """One priority of a pool."""

    priority: Priority
    queue: Annotated[str, Field(description="Its name at the broker.")]


class QueueBody(_Load):
    """A pool: what waits for it, what it runs, and how many workers it should have."""

    pool: str
    object: Literal["queue"] = "queue"
    finish_per_s: Annotated[float, Field(description="Jobs that its workers bring to an end, per second.")]
    workers: Annotated[int, Field(description="Worker processes seen in the last 20 s.")]
    ready_workers: Annotated[int, Field(description="Those of them whose models are loaded.")]
    concurrency: Annotated[int, Field(description="Batches that these can run at once.")]
    busy: Annotated[int, Field(description="Batches that they run now.")]
    desired_workers: Annotated[int, Field(description="Worker processes that keep up with what arrives and clear what waits within a minute.")]
    lanes: Annotated[Sequence[LaneBody], Field(description="The most urgent first.")]
    urls: Mapping[str, str]


class QueueList(BaseModel):
    """A page of pools."""

    data: Sequence[QueueBody]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")
