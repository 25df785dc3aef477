"""What a job's request and answer look like."""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from domain.event_types import JOB_EVENTS
from domain.job import Priority, Status
from domain.outbound import MAX_URL_CHARS

MAX_ATTEMPTS = 10
MAX_DEADLINE_S = 30 * 86_400.0
MAX_METADATA_PAIRS = 16
MAX_METADATA_BYTES = 4_096
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(text: str) -> datetime:
    """A time by RFC 3339, in UTC.

    Raises:
        ValueError: it is none, has no offset, or is no moment of the calendar.
    """
    if _RFC3339.fullmatch(text) is None:
        raise ValueError("must be a time by RFC 3339 with an offset, for example 2026-11-23T20:00:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("is no moment of the calendar") from error


def check_time(value: str) -> str:
    """The text itself, if it is a time by RFC 3339."""
    try:
        parse_time(value)
    except ValueError as error:
        raise PydanticCustomError("invalid_datetime", "{problem}", {"problem": str(error)}) from error
    return value


def _metadata(value: Any) -> Any:
    if not isinstance(value, dict):
        return value  # its type is refused next
    if len(value) > MAX_METADATA_PAIRS:
        raise PydanticCustomError("invalid_metadata", "must hold at most 16 pairs")
    if not all(isinstance(item, str) for item in value.values()):
        raise PydanticCustomError("invalid_metadata", "must hold strings alone")
    if sum(len(key.encode()) + len(item.encode()) for key, item in value.items()) > MAX_METADATA_BYTES:
        raise PydanticCustomError("invalid_metadata", "must hold at most 4 KiB")
    return value


def _not_built(*, default: Any) -> BeforeValidator:
    def check(value: Any) -> Any:
        if type(value) is not type(default) or value != default:
            raise PydanticCustomError("not_available", "only its default is available so far")
        return value

    return BeforeValidator(check)


def types_among(known: Collection[str]) -> AfterValidator:
    """Checks a list of event types: each is one of those, and none stands twice."""

    def check(types: list[str]) -> list[str]:
        if unknown := next((name for name in types if name not in known), None):
            raise PydanticCustomError(
                "invalid_value", "must hold types among {known}; {unknown} is none", {"known": ", ".join(sorted(known)), "unknown": repr(unknown[:100])}
            )
        if len(set(types)) < len(types):
            raise PydanticCustomError("invalid_value", "must hold each type once")
        return types

    return AfterValidator(check)


def shown_types(known: Collection[str]) -> dict[str, Any]:
    """JSON Schema of the same."""
    return {"type": "array", "items": {"type": "string", "enum": sorted(known)}, "minItems": 1, "uniqueItems": True}


class Shape(BaseModel):
    """A strict request: unknown fields are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, title=None)


class Route(Shape):
    """How a model is chosen where none is pinned; only the defaults are available so far."""

    policy: Annotated[str, _not_built(default="balanced")] = "balanced"
    fallbacks: Annotated[bool, _not_built(default=True)] = True
    max_cost_usd: Annotated[None, _not_built(default=None)] = None


class WebhookRequest(Shape):
    """Where to send this job's events, signed with your default secret."""

    url: str = Field(min_length=1, max_length=MAX_URL_CHARS, description="Gets the events by POST; `https://`, port 443 or 8443, at a public address.")
    events: Annotated[list[str], Field(min_length=1), types_among(JOB_EVENTS)] | None = Field(
        default=None, description="Which events; every end of the job if left out.", json_schema_extra={"anyOf": [shown_types(JOB_EVENTS), {"type": "null"}]}
    )


class JobRequest(Shape):
    """A job to take."""

    task: str = Field(description="A task type of the catalogue; see `GET /v1/tasks`.")
    input: dict[str, Any] = Field(description="As the task's contract says.")
    model: str | None = Field(default=None, description="Pins a model of the task; otherwise the route chooses.")
    route: Route | None = None
    priority: Literal["interactive", "standard", "flex"] = "standard"
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(default=None, description="Bounds one attempt; the task says how far.")
    deadline_s: Annotated[float, Field(gt=0, le=MAX_DEADLINE_S)] | None = Field(
        default=None, description="Bounds the job from submit to end; 24 h if left out."
    )
    not_before: Annotated[str, AfterValidator(check_time), Field(json_schema_extra={"format": "date-time"})] | None = Field(
        default=None, description="Delays the start."
    )
    max_attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] | None = Field(default=None, description="3 if left out.")
    cache: Annotated[str, _not_built(default="use")] = "use"
    webhook: WebhookRequest | None = Field(default=None, description="Sends the job's events to an address of yours.")
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA_PAIRS), BeforeValidator(_metadata)] = Field(
        default_factory=dict, description="At most 16 pairs of strings, 4 KiB in all."
    )


class RerunRequest(Shape):
    """What a rerun changes."""

    model: str | None = Field(default=None, description="Another model of the same task.")
    route: Route | None = None


class EmptyRequest(Shape):
    """Nothing: the body may be left out."""


class JobError(BaseModel):
    """Why a job has no result."""

    code: str
    message: str
    retryable: bool


class Timing(BaseModel):
    """Where the time went; null for what has not happened."""

    queue_ms: float | None = Field(description="Due and waiting, over all attempts.")
    run_ms: float | None = Field(description="Running, over all attempts that have ended.")
    total_ms: float | None = Field(description="From submit to end.")


class JobUsage(BaseModel):
    """What a result took."""

    input_tokens: int
    output_tokens: int
    cost_usd: str


class WebhookProgress(BaseModel):
    """How the webhook of a job stands; it never changes the job's own status."""

    state: Literal["waiting", "pending", "sending", "delivered", "failed", "unwanted"] = Field(
        description="`waiting`: nothing that it asked for has happened; `unwanted`: the job ended as it did not ask for; else how the delivery stands."
    )
    tries: int
    next_try_at: datetime | None


class JobUrls(BaseModel):
    """Where to go next."""

    self: str
    cancel: str
    rerun: str
    events: str
    attempts: str


class FileUrls(BaseModel):
    """Where to go from a file."""

    self: str
    content: str


class JobSummary(BaseModel):
    """A job as lists show it."""

    id: str
    object: Literal["job"]
    task: str
    model: str
    priority: Priority
    status: Status
    error: JobError | None
    attempt: int = Field(description="How many attempts have begun.")
    max_attempts: int
    created_at: datetime
    available_at: datetime = Field(description="Not before then; ahead while it waits for its start or its retry.")
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime
    expires_at: datetime | None = Field(description="When input and output are erased.")
    timing: Timing
    usage: JobUsage | None
    cached: bool
    metadata: Mapping[str, str]
    webhook: WebhookProgress | None = Field(description="Of the job's own webhook, by its newest delivery; null if it asked for none.")
    batch_id: str | None
    custom_id: str | None
    rerun_of: str | None
    urls: JobUrls


class OutputFile(BaseModel):
    """The file that holds an output, as JSON."""

    id: str
    bytes: int
    urls: FileUrls


class Job(JobSummary):
    """A job, everywhere else."""

    input: Any
    output: Any | None
    output_file: OutputFile | None = Field(description="An output over 1 MiB is in a file; `output` then is null.")


class Attempt(BaseModel):
    """One attempt of a job."""

    id: str | None = Field(description="Null while it runs.")
    object: Literal["attempt"]
    number: int
    model: str
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: Literal["succeeded", "failed", "lost", "released", "canceled", "expired"] | None
    error: JobError | None
    timing: Mapping[str, float | None]


class AttemptList(BaseModel):
    """Every attempt of a job, the first first."""

    data: list[Attempt]
    next_cursor: str | None


class JobEvent(BaseModel):
    """One thing that happened to a job."""

    seq: int
    type: Literal["status", "progress", "log", "output.delta"]
    attempt: int
    status: Status | None
    created_at: datetime
    data: Any | None


class JobEventList(BaseModel):
    """A job's history, the first event first."""

    data: list[JobEvent]
    next_cursor: str | None
