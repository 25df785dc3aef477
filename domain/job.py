"""The life of a job: its statuses, its priorities, and the one table of legal transitions.

The table drives the guards in SQL, the CHECK constraints, the Hypothesis state machine and the diagram in the docs.
"""

from enum import StrEnum


class Status(StrEnum):
    """Where a job is in its life.

    ``queued``: accepted; waits for a worker, for ``not_before`` or for its retry.
    ``running``: one worker holds its lease.
    ``succeeded``, ``failed``, ``canceled``, ``expired``: final; they never change.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether a job with this status has ended for good."""
        return self in FINAL


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED})
LIVE = frozenset({Status.QUEUED, Status.RUNNING})


class Priority(StrEnum):
    """Which of a pool's queues a job waits in, the most urgent first."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    FLEX = "flex"


class ChildRole(StrEnum):
    """Why a job has a parent. Children are jobs like others, but hidden from lists, batches, webhooks and the feed."""

    CONSENSUS = "consensus"  # its parent waits for it, and joins it with its siblings
    SHADOW = "shadow"  # nobody waits for it


class Event(StrEnum):
    """What moves a job from one status to another."""

    CLAIM = "claim"  # a worker takes it; fence + 1, attempt + 1
    COMPLETE = "complete"  # the attempt gave a result
    FAIL = "fail"  # the last allowed run failed, or the failure is not retryable
    RETRY = "retry"  # the run failed for the job's own reason, and may be tried again; fence + 1
    RELEASE = "release"  # the worker gives it back unspent (shutdown, lost in company); fence + 1
    HOLD = "hold"  # its answers disagree, and a person is asked; fence + 1
    ESCALATE = "escalate"  # its answer is not sure enough, and the next model is asked; fence + 1
    CANCEL = "cancel"  # a person or a service wants it no longer; fence + 1
    EXPIRE = "expire"  # the deadline passed first; fence + 1


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.QUEUED, Event.CLAIM): Status.RUNNING,
    (Status.QUEUED, Event.CANCEL): Status.CANCELED,
    (Status.QUEUED, Event.EXPIRE): Status.EXPIRED,
    (Status.RUNNING, Event.COMPLETE): Status.SUCCEEDED,
    (Status.RUNNING, Event.FAIL): Status.FAILED,
    (Status.RUNNING, Event.RETRY): Status.QUEUED,
    (Status.RUNNING, Event.RELEASE): Status.QUEUED,
    (Status.RUNNING, Event.HOLD): Status.QUEUED,
    (Status.RUNNING, Event.ESCALATE): Status.QUEUED,
    (Status.RUNNING, Event.CANCEL): Status.CANCELED,
    (Status.RUNNING, Event.EXPIRE): Status.EXPIRED,
}


class Outcome(StrEnum):
    """How an attempt ended, as its record says."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # for the job's own reason; counts against max_attempts
    LOST = "lost"  # its process or its lease went away
    RELEASED = "released"  # given back unspent by a stopping worker
    CANCELED = "canceled"
    EXPIRED = "expired"
    HELD = "held"  # its answers disagree, and the job waits for a review
    ESCALATED = "escalated"  # its answer did not do, and the next model of the cascade is asked; spends nothing


DEFAULT_MAX_ATTEMPTS = 3
MAX_CRASHES = 3  # processes a job may take down, alone, before it fails as worker_lost
DEFAULT_DEADLINE_S = 86_400.0  # API.md: 24 h after submit unless deadline_s says otherwise
