"""A dispatch: ids of one model, on their way through one child process."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from workers.board import Place, Progress


class Kill(StrEnum):
    """Why the main process killed a child."""

    OVER_TIME = "over_time"
    CANCELED = "canceled"
    DRAINED = "drained"  # the worker stops and has waited long enough


@dataclass(slots=True)
class Dispatch:
    """What the main process knows of jobs that it has given to a child.

    Attributes:
        owner: what the jobs' ``lease_owner`` is while this dispatch, or one that follows from it, holds them.
        resume: whether jobs may be held by ``owner`` already, since a child died with them.
        acknowledge: acknowledges the messages that the ids came from.
        place_number: its place on the board.
        kill: why its child was killed, if it was.
        raised: what the child raised outside ``infer``, if it lives.
    """

    owner: str
    model: str
    ids: Sequence[UUID]
    solo: bool
    resume: bool
    place: Place
    place_number: int
    acknowledge: Callable[[], None]
    accepted: bool = False
    kill: Kill | None = None
    raised: str | None = None
    seen_held: set[UUID] = field(default_factory=set)
    stopped_since: float | None = None
    born_at: float = field(default_factory=time.monotonic)

    def jobs_in(self, *states: Progress) -> list[UUID]:
        """The jobs whose progress is one of these."""
        return [job_id for index, job_id in enumerate(self.ids) if self.place.progress(index) in states]

    @property
    def unfinished(self) -> list[UUID]:
        """The jobs that are not done."""
        return self.jobs_in(Progress.UNKNOWN, Progress.WAITING, Progress.RUNNING)
