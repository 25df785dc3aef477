"""What a job's request and answer look like."""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.schemas.consensus import ChildBody, ConsensusBody, ConsensusRequest, ReviewState
from api.schemas.problem import JobError
from api.schemas.shape import Shape
from domain.event_types import JOB_EVENTS
from domain.job import Priority, Status
from domain.outbound import MAX_URL_CHARS

MAX_ATTEMPTS = 10
MAX_DEADLINE_S = 30 * 86_400.0
MAX_METADATA_PAIRS = 16
MAX_FALLBACKS = 16
MAX_METADATA_BYTES = 4_096
_USD = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
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


def _fallbacks(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise PydanticCustomError("wrong_type", "must be true, false or a list of models")
    if len(value) > MAX_FALLBACKS:
        raise PydanticCustomError("too_many_items", "must name at most 16 models")
    if len(set(value)) < len(value):
        raise PydanticCustomError("invalid_value", "must name each model once")
    return value


def _usd(value: str) -> str:
    if _USD.fullmatch(value) is None:
        raise PydanticCustomError("invalid_value", "must be dollars as a decimal string, such as 0.002")
    return value


class Route(Shape):
    """How a model is chosen where none is pinned, and what comes after one that fails."""

    policy: str | None = Field(
        default=None,
        description="`balanced`, `cheapest`, `fastest`, `best` or another one of this service; the task's own if left out. A task whose models are not "
        "`interchangeable` keeps to one model where this is left out.",
    )
    fallbacks: Annotated[bool | list[str], BeforeValidator(_fallbacks)] = Field(
        default=True,
        description="Models that take over, one after the other, when a model fails for its own reason: all others of the task in the policy's order "
        "(`true`; none if `model` pins one, or the task's models are not `interchangeable`), none, or these in this order.",
    )
    max_cost_usd: Annotated[str, AfterValidator(_usd)] | None = Field(
        default=None,
        description="Dollars, as a decimal string, for all attempts together: models whose estimate is over it are left out, "
        "and an attempt that would go over it by estimate is not begun (`cost_limit`).",
    )


class CascadeRequest(Shape):
    """The cheap model first, and the next one only where its answer is not sure enough of itself."""

    models: Annotated[list[str], Field(min_length=2, max_length=MAX_FALLBACKS)] | None = Field(
        default=None, description="In the order in which they are asked; all of the task that are installed, the cheapest first, if left out."
    )
    min_confidence: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=0.8, description="An answer as sure as that stands; the last model's stands in any case. Where the number comes from, the task says."
    )


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
    consensus: ConsensusRequest | None = Field(default=None, description="Asks several models and compares their answers; instead of `model` and `route`.")
    cascade: CascadeRequest | None = Field(
        default=None, description="Asks one model after the other until an answer is sure enough; instead of `model`, `route` and `consensus`."
    )
    priority: Literal["interactive", "standard", "flex"] = "standard"
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(default=None, description="Bounds one attempt; the task says how far.")
    deadline_s: Annotated[float, Field(gt=0, le=MAX_DEADLINE_S)] | None = Field(
        default=None, description="Bounds the job from submit to end; 24 h if left out."
    )
    not_before: Annotated[str, AfterValidator(check_time), Field(json_schema_extra={"format": "date-time"})] | None = Field(
        default=None, description="Delays the start."
    )
    max_attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] | None = Field(
        default=None, description="How many runs may fail, on all models together; if left out 3, or one for each model that the job may have."
    )
    cache: Annotated[str, _not_built(default="use")] = "use"
    webhook: WebhookRequest | None = Field(default=None, description="Sends the job's events to an address of yours.")
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA_PAIRS), BeforeValidator(_metadata)] = Field(
        default_factory=dict,
        description="At most 16 pairs of strings, 4 KiB in all. Where jobs are shared out by weights, those with the same `route_key` get the same model.",
    )


class RerunRequest(Shape):
    """What a rerun changes."""

    model: str | None = Field(default=None, description="Another model of the same task; pins it.")
    route: Route | None = Field(default=None, description="Chooses anew by this route; if left out, by the one that the old job had.")
    consensus: ConsensusRequest | None = Field(default=None, description="Asks several models; if all are left out, as the old job did.")


class EmptyRequest(Shape):
    """Nothing: the body may be left out."""


class Timing(BaseModel):
    """Where the time went; null for what has not happened."""

    queue_ms: float | None = Field(description="Due and waiting, over all attempts.")
    run_ms: float | None = Field(description="Running, over all attempts that have ended.")
    total_ms: float | None = Field(description="From submit to end.")


class JobUsage(BaseModel):
    """What a job took, attempts that failed included where their model says so."""

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


class RoutingCandidate(BaseModel):
    """A model that could have had the job."""

    model: str
    score: float = Field(description="The lowest is chosen; comparable inside one decision alone.")
    estimated_cost_usd: str = Field(description="Of one run, from the size of the input, before anything has run.")
    why: str


class RoutingExcluded(BaseModel):
    """A model that could not."""

    model: str
    why: str


class Failover(BaseModel):
    """A move of the job from one model to another."""

    from_: str = Field(alias="from")
    to: str
    code: str | None = Field(description="Why: the code of the failure, or `breaker_open` where the model was not tried.")
    at: datetime


class RoutingRequested(BaseModel):
    """What the request says of it."""

    model: str | None
    policy: str | None
    fallbacks: bool | list[str]
    max_cost_usd: str | None


class Routing(BaseModel):
    """How the job's model was chosen, and what has become of it since."""

    policy: str | None = Field(description="Whose order the candidates have; null where `model` pinned one, or the job keeps to one.")
    model: str = Field(description="The first choice; the job's own `model` is the one that runs, or ran last.")
    reasons: list[str]
    fallbacks: list[str] = Field(description="What comes after the first choice, in this order.")
    candidates: list[RoutingCandidate]
    excluded: list[RoutingExcluded]
    requested: RoutingRequested
    failovers: list[Failover]


class CascadeStep(BaseModel):
    """What one model gave."""

    model: str
    outcome: str = Field(description="`answered`; `low_confidence`; or the code of its failure.")
    confidence: float | None
    cost_usd: str | None


class CascadeBody(BaseModel):
    """How far up the job has gone."""

    models: list[str]
    min_confidence: float
    steps: list[CascadeStep]
    cost_usd: str
    saved_usd: str | None = Field(
        description="Against asking the last model at once, by its estimate where it did not run; below 0 where it did. Null until the end."
    )


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
    available_at: datetime | None = Field(
        description="Not before then; ahead while it waits for its start or its retry; null while it waits for its models' answers or a review."
    )
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime
    expires_at: datetime | None = Field(description="When input and output are erased.")
    timing: Timing
    usage: JobUsage | None
    cached: bool
    routing: Routing | None = Field(description="Null where there was nothing to choose: a pinned model, or the only one of its task.")
    metadata: Mapping[str, str]
    webhook: WebhookProgress | None = Field(description="Of the job's own webhook, by its newest delivery; null if it asked for none.")
    batch_id: str | None
    custom_id: str | None
    rerun_of: str | None
    parent_id: str | None = Field(description="The job that this one is a part of; null for a job of your own.")
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
    children: list[ChildBody] | None = Field(description="What runs for it, a model each; null for a job that runs itself.")
    consensus: ConsensusBody | None = Field(description="How far its models agree; null where one model alone was asked.")
    review: ReviewState | None = Field(description="Null unless a person was asked.")
    cascade: CascadeBody | None = Field(description="What each model of a cascade gave; null for a job that is none.")


class Attempt(BaseModel):
    """One attempt of a job."""

    id: str | None = Field(description="Null while it runs.")
    object: Literal["attempt"]
    number: int
    model: str
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: Literal["succeeded", "failed", "lost", "released", "canceled", "expired", "held", "escalated"] | None
    error: JobError | None
    timing: Mapping[str, float | None]


class AttemptList(BaseModel):
    """A page of a job's attempts, the first first."""

    data: list[Attempt]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


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
