"""The tables, as SQLAlchemy records: what the migrations are compared with."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, ForeignKey, Numeric, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, BYTEA, DOUBLE_PRECISION, INTEGER, JSONB, TIMESTAMP
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

_NOW = text("now()")


class TransactionId(UserDefinedType[str]):
    """PostgreSQL's ``xid8``: rises with every transaction that writes, and never wraps around. Read as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The name of the type."""
        return "xid8"


ischema_names["xid8"] = TransactionId  # SQLAlchemy knows no such type when it looks at a database


class Record(DeclarativeBase):
    """Base of all records; `model` unqualified means the ML model that a job names."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        str: Text(),
        datetime: TIMESTAMP(timezone=True),
        float: DOUBLE_PRECISION(),
        bytes: BYTEA(),
        int: INTEGER(),
    }


class TenantRecord(Record):
    """Who owns jobs and keys."""

    __tablename__ = "tenants"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class KeyRecord(Record):
    """An API key, by its hash."""

    __tablename__ = "api_keys"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    hint: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class JobRecord(Record):
    """The hot row of a job; see migration 0002 for what each column means."""

    __tablename__ = "jobs"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    key_id: Mapped[UUID]
    batch_id: Mapped[UUID | None]
    rerun_of: Mapped[UUID | None]
    parent_id: Mapped[UUID | None]
    fence: Mapped[int] = mapped_column(BIGINT, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    available_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    deadline_at: Mapped[datetime]
    published_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    attempt_started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]
    queue_ms: Mapped[float] = mapped_column(server_default="0")
    run_ms: Mapped[float] = mapped_column(server_default="0")
    timeout_s: Mapped[float]
    retention_s: Mapped[float]
    attempt: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    max_attempts: Mapped[int]
    event_seq: Mapped[int] = mapped_column(server_default="1")
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    pending_children: Mapped[int | None] = mapped_column(SmallInteger)
    crashes: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    publications: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    solo: Mapped[bool] = mapped_column(server_default="false")
    alone: Mapped[bool] = mapped_column(server_default="false")
    task: Mapped[str]
    model: Mapped[str]
    pool: Mapped[str]
    priority: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="queued")
    child_role: Mapped[str | None]
    custom_id: Mapped[str | None]
    lease_owner: Mapped[str | None]
    cost_usd: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class InputRecord(Record):
    """What a job was given; erased when its retention ends."""

    __tablename__ = "job_inputs"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    input: Mapped[Any] = mapped_column(JSON)
    metadata_: Mapped[dict[str, str] | None] = mapped_column("metadata", JSONB)
    traceparent: Mapped[str | None]
    routing: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    failovers: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)


class OutputRecord(Record):
    """What a job gave; one at most."""

    __tablename__ = "job_outputs"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(BIGINT)
    output: Mapped[Any] = mapped_column(JSON)
    file_id: Mapped[UUID | None]


class FileRecord(Record):
    """What is known of an object in the store of files; see migration 0009 for its columns."""

    __tablename__ = "files"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    job_id: Mapped[UUID | None]
    fence: Mapped[int | None] = mapped_column(BIGINT)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    expires_at: Mapped[datetime]
    size_bytes: Mapped[int | None] = mapped_column(BIGINT)
    state: Mapped[str] = mapped_column(server_default="pending")
    object_key: Mapped[str]
    content_type: Mapped[str | None]
    filename: Mapped[str | None]
    sha256: Mapped[bytes | None]


class JobFileRecord(Record):
    """A file that a job was accepted with."""

    __tablename__ = "job_files"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    file_id: Mapped[UUID] = mapped_column(primary_key=True)


class AttemptRecord(Record):
    """An attempt that has ended; the one that runs is on the job's row."""

    __tablename__ = "job_attempts"
    id: Mapped[UUID]
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(BIGINT)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    model: Mapped[str]
    worker: Mapped[str]
    outcome: Mapped[str]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class EventRecord(Record):
    """One thing that happened to a job; ``seq`` counts from 1."""

    __tablename__ = "job_events"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    type: Mapped[str]
    status: Mapped[str | None]
    data: Mapped[Any | None] = mapped_column(JSON)


class IdempotencyRecord(Record):
    """What an Idempotency-Key made in the last 24 hours."""

    __tablename__ = "idempotency_keys"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key_hash: Mapped[bytes] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    subject_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class BatchRecord(Record):
    """Many jobs of one API call."""

    __tablename__ = "batches"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    key_id: Mapped[UUID]
    total: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    canceled_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class ConsensusRecord(Record):
    """What a job's models must agree on, and what came of it."""

    __tablename__ = "job_consensus"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    rule: Mapped[Any] = mapped_column(JSON)
    report: Mapped[Any | None] = mapped_column(JSON)


class ReviewRecord(Record):
    """A job whose models disagree and that waits, or waited, for a person's word."""

    __tablename__ = "job_reviews"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    asked_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[UUID | None]
    resolution: Mapped[Any | None] = mapped_column(JSON)


class EndpointRecord(Record):
    """Where webhooks go: registered by its owner, or the origin of single jobs' webhooks; see migration 0005 for its columns."""

    __tablename__ = "webhook_endpoints"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    failing_since: Mapped[datetime | None]
    hinted_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default="0")
    kind: Mapped[str]
    standing: Mapped[str] = mapped_column(server_default="new")
    enabled: Mapped[bool] = mapped_column(server_default="true")
    disabled_reason: Mapped[str | None]
    url: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    events: Mapped[list[str] | None] = mapped_column(ARRAY(Text))


class SecretRecord(Record):
    """A signing secret, sealed."""

    __tablename__ = "webhook_secrets"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    endpoint_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    expires_at: Mapped[datetime | None]
    sealing_key: Mapped[str]
    sealed: Mapped[bytes]


class JobWebhookRecord(Record):
    """The webhook that a single job asked for."""

    __tablename__ = "job_webhooks"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID]
    url: Mapped[str]
    events: Mapped[list[str] | None] = mapped_column(ARRAY(Text))


class PublicEventRecord(Record):
    """One thing that webhooks and the feed tell of."""

    __tablename__ = "events"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    xid: Mapped[str] = mapped_column(TransactionId, server_default=text("pg_current_xact_id()"))
    job_id: Mapped[UUID | None]
    batch_id: Mapped[UUID | None]
    endpoint_id: Mapped[UUID | None]
    type: Mapped[str]
    body: Mapped[bytes | None]


class DeliveryRecord(Record):
    """One event on its way to one endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (UniqueConstraint("event_id", "endpoint_id"),)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    event_id: Mapped[UUID]
    endpoint_id: Mapped[UUID]
    job_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    available_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    lease_expires_at: Mapped[datetime | None]
    last_try_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(BIGINT, server_default="0")
    tries: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    schedule_step: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(server_default="pending")
    type: Mapped[str]
    url: Mapped[str]
    lease_owner: Mapped[str | None]
    error: Mapped[str | None]


class TryRecord(Record):
    """One POST of a delivery, and what came of it."""

    __tablename__ = "webhook_tries"
    delivery_id: Mapped[UUID] = mapped_column(primary_key=True)
    try_: Mapped[int] = mapped_column("try", SmallInteger, primary_key=True)
    started_at: Mapped[datetime]
    duration_ms: Mapped[float]
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    error: Mapped[str | None]
    detail: Mapped[str | None]
    answer: Mapped[str | None]


class ModelMinuteRecord(Record):
    """How a model did in one minute, over all tenants."""

    __tablename__ = "model_minutes"
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(BIGINT)
    failures: Mapped[dict[str, int]] = mapped_column(JSONB)
    run_ms: Mapped[dict[str, int]] = mapped_column(JSONB)


class ModelDayRecord(Record):
    """How a model did for one tenant on one day."""

    __tablename__ = "model_days"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(BIGINT)
    jobs: Mapped[int] = mapped_column(BIGINT)
    failures: Mapped[dict[str, int]] = mapped_column(JSONB)
    run_ms: Mapped[dict[str, int]] = mapped_column(JSONB)
    input_tokens: Mapped[int] = mapped_column(BIGINT)
    output_tokens: Mapped[int] = mapped_column(BIGINT)
    cost_usd: Mapped[Decimal] = mapped_column(Numeric(18, 9))
    scores: Mapped[int] = mapped_column(BIGINT, server_default="0")
    score_sum: Mapped[float] = mapped_column(server_default="0")


class FeedbackRecord(Record):
    """What a tenant says of a job's output."""

    __tablename__ = "job_feedback"
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    key_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    score: Mapped[float]
    compared: Mapped[bool]
    correct_output: Mapped[Any | None] = mapped_column(JSON)
    note: Mapped[str | None]


class ComparisonRecord(Record):
    """What became of a shadow; see migration 0011 for its columns."""

    __tablename__ = "shadow_comparisons"
    shadow_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    compared_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    task: Mapped[str]
    model: Mapped[str]
    primary_model: Mapped[str]
    agreement: Mapped[float | None]
    run_ms: Mapped[float]
    primary_run_ms: Mapped[float]
    cost_usd: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    primary_cost_usd: Mapped[Decimal | None] = mapped_column(Numeric(18, 9))
    error_code: Mapped[str | None]
    primary_error_code: Mapped[str | None]


class WorkerRecord(Record):
    """What a worker process last said of itself."""

    __tablename__ = "worker_processes"
    name: Mapped[str] = mapped_column(primary_key=True)
    pool: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    concurrency: Mapped[int]
    ready: Mapped[bool]
    busy: Mapped[int] = mapped_column(server_default="0")
    finish_per_s: Mapped[float] = mapped_column(server_default="0")
    started_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    seen_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class BreakerRecord(Record):
    """What a model that failed lately is known for; see migration 0006. A model that works has none."""

    __tablename__ = "model_breakers"
    model: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    failures_in_row: Mapped[int] = mapped_column(server_default="0")
    window_started_at: Mapped[datetime]
    window_failures: Mapped[int] = mapped_column(server_default="0")
    window_successes: Mapped[int] = mapped_column(server_default="0")
    openings: Mapped[int] = mapped_column(server_default="0")
    code: Mapped[str | None]
    opened_at: Mapped[datetime | None]
    probe_at: Mapped[datetime | None]
