"""What webhooks and the event feed can speak of."""

from enum import StrEnum

from domain.job import Status


class EventType(StrEnum):
    """The type of a public event, as its body and filters name it."""

    JOB_STARTED = "job.started"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELED = "job.canceled"
    JOB_EXPIRED = "job.expired"
    BATCH_COMPLETED = "batch.completed"
    BUDGET_THRESHOLD = "budget.threshold"
    BUDGET_EXHAUSTED = "budget.exhausted"
    ENDPOINT_DISABLED = "endpoint.disabled"
    PING = "ping"  # goes to the endpoint that is tested, whatever its filter


JOB_EVENTS = frozenset({EventType.JOB_STARTED, *(EventType(f"job.{status}") for status in Status if status.final)})
"""Those that a single job's webhook can ask for."""

DEFAULT_EVENTS = frozenset(EventType) - {EventType.JOB_STARTED, EventType.PING}
"""What a receiver gets that named none."""

SELECTABLE_EVENTS = frozenset(EventType) - {EventType.PING}
"""Those that an endpoint's filter may name."""
