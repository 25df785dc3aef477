"""How tasks and models look from outside."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

UsdText = Annotated[Decimal, Field(json_schema_extra={"type": "string"}, description="Dollars, as a decimal string.")]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True)


class ExampleBody(_Shape):
    """An input that can be sent as it stands."""

    title: str
    input: Mapping[str, Any]


class TaskLimits(_Shape):
    """What a job of this task may ask for, and how long its result is kept."""

    timeout_s: Annotated[float, Field(description="Bounds one attempt, unless the job says otherwise.")]
    max_timeout_s: Annotated[float, Field(description="The most that a job may ask for.")]
    max_output_bytes: Annotated[int, Field(description="A larger output fails the job.")]
    retention_s: Annotated[float, Field(description="How long input and output are kept after the end.")]


class TaskBody(_Shape):
    """A kind of work: what goes in, what comes out, and which models do it."""

    id: Annotated[str, Field(description="What a job names as its `task`.")]
    object: Literal["task"] = "task"
    summary: str
    default_model: str
    policy: Annotated[
        str, Field(description="How a job that names neither a model nor a policy gets its model; has no say where models are not `interchangeable`.")
    ]
    weights: Annotated[Mapping[str, int], Field(description="Shares of those jobs that go to each model, whatever the policy says; empty for none.")]
    interchangeable: Annotated[
        bool,
        Field(
            description="Whether one of its models may stand in for another. If not, a job that names neither a model nor a policy keeps to the default "
            "model, or the one that the weights give to its tenant (and `metadata.route_key`), and fails over to none that its route does not list."
        ),
    ]
    models: Sequence[str]
    input_schema: Annotated[Mapping[str, Any], Field(description="JSON Schema (2020-12) of a job's `input`.")]
    output_schema: Annotated[Mapping[str, Any], Field(description="JSON Schema (2020-12) of a job's `output`.")]
    examples: Sequence[ExampleBody]
    limits: TaskLimits
    urls: Mapping[str, str]


class TaskList(_Shape):
    """A page of tasks."""

    data: Sequence[TaskBody]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class PriceBody(_Shape):
    """What a model costs; an amount is the sum of the three."""

    per_job_usd: UsdText
    per_million_input_tokens_usd: UsdText
    per_million_output_tokens_usd: UsdText


class ModelLimits(_Shape):
    """How much the model takes at once."""

    max_batch_size: Annotated[int, Field(description="Jobs that run together at most.")]
    max_batch_items: Annotated[int, Field(description="Pieces of work that run together at most; one job alone may have more.")]


class BreakerBody(_Shape):
    """The breaker of a model that failed lately, the same for all workers."""

    state: Annotated[
        Literal["closed", "open", "half_open"],
        Field(description="`open`: no job is let through; `half_open`: one is, the probe; `closed`: it failed lately, but not so often."),
    ]
    failures_in_row: int
    code: Annotated[str | None, Field(description="Of the failure that opened it.")]
    opened_at: datetime | None
    next_probe_at: Annotated[datetime | None, Field(description="When the next job may be tried on it.")]


class ModelHealth(_Shape):
    """Whether a job of this model would run now."""

    status: Annotated[
        Literal["ready", "no_workers", "not_installed", "out_of_order"],
        Field(
            description="`no_workers`: jobs are accepted and wait; `not_installed`: they are refused, the weights or the provider's key are missing; "
            "`out_of_order`: its breaker is open, jobs go on with their next model or wait."
        ),
    ]
    ready_workers: Annotated[int, Field(description="Worker processes of its pool whose models are loaded.")]
    breaker: Annotated[BreakerBody | None, Field(description="What is remembered against it; null while it works.")]


class LatencyBody(_Shape):
    """How long successful runs took in the last five minutes, with whatever ran together with them."""

    samples: Annotated[int, Field(description="How many there were.")]
    run_p50_ms: float
    run_p95_ms: float


class ModelBody(_Shape):
    """A model and how it is doing."""

    id: Annotated[str, Field(description="What a job may name as its `model`.")]
    object: Literal["model"] = "model"
    task: str
    default: Annotated[bool, Field(description="Whether its task takes it when a job names none.")]
    pool: Annotated[str, Field(description="The workers that run it; see `/v1/queues/{pool}`.")]
    backend: Annotated[str, Field(description="The kind of runtime.")]
    version: str
    description: str
    license: str
    quality: Annotated[float | None, Field(description="Compares models of one task, 0 to 1: the catalogue's figure, corrected by feedback.")]
    price: PriceBody
    limits: ModelLimits
    lacks: Annotated[Sequence[str], Field(description="Optional fields of its task's input that it does not take; a job that gives one goes to other models.")]
    installed: Annotated[bool, Field(description="Whether its weights are here, and its provider's key.")]
    health: ModelHealth
    latency: Annotated[LatencyBody | None, Field(description="Null when no run has succeeded lately.")]
    error_rate: Annotated[
        float | None, Field(description="Runs of the last five minutes that failed for the model's own reason, 0 to 1; null when none has ended.")
    ]
    urls: Mapping[str, str]


class ModelList(_Shape):
    """A page of models."""

    data: Sequence[ModelBody]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")
