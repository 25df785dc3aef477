"""The catalogue: tasks with their contracts, models with their health."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from flask import Blueprint, Flask, Response
from flask.blueprints import BlueprintSetupState

from api.answers import json_answer
from api.context import EXTENSION, ApiContext, context
from api.operation import Answer, operation
from api.pages import LINK, page_answer, page_parameters
from api.remembered import remember, remembered
from api.schemas.catalogue import (
    BreakerBody,
    ExampleBody,
    LatencyBody,
    ModelBody,
    ModelHealth,
    ModelLimits,
    ModelList,
    PriceBody,
    TaskBody,
    TaskLimits,
    TaskList,
)
from api.urls import base_url
from domain.catalogue import ModelSpec
from domain.errors import NotFound
from domain.routing.breaker import Breaker, State
from models.queries.breakers import all_breakers
from models.queries.model_stats import LiveStats, live_facts
from models.queries.queues import PoolWorkers, pool_workers
from models.remembered import Remembered
from models.transactions import unit_of_work

LIVE_S = 2.0

blueprint = Blueprint("catalogue", __name__, url_prefix="/v1")


@dataclass(frozen=True, slots=True)
class _Live:
    """How workers and models are doing."""

    workers: Mapping[str, PoolWorkers]
    stats: Mapping[str, LiveStats]
    breakers: Mapping[str, Breaker]


@blueprint.record
def _install(state: BlueprintSetupState) -> None:
    app = cast("Flask", state.app)
    remember(app, "live_models", Remembered(lambda: _load(app.extensions[EXTENSION]), ttl_s=LIVE_S))


def _load(the_context: ApiContext) -> _Live:
    with unit_of_work(the_context.engine) as connection:
        return _Live(workers=pool_workers(connection), stats=live_facts(connection), breakers=all_breakers(connection)[0])


@blueprint.get("/tasks")
@operation(
    summary="List the tasks",
    tag="Catalogue",
    description="Every kind of work with the JSON Schema of its input and output, examples to send, limits, and the models that do it.",
    parameters=page_parameters("Tasks"),
    answers={200: Answer("A page of tasks.", TaskList, headers=LINK)},
)
def list_tasks() -> Response:
    """A page of the tasks."""
    return page_answer([*context().catalogue.offered], lambda name: _task(name).model_dump())


@blueprint.get("/tasks/<task>")
@operation(summary="Get a task", tag="Catalogue", answers={200: Answer("The task.", TaskBody)}, errors=(NotFound,))
def get_task(task: str) -> Response:
    """One task."""
    if task not in context().catalogue.offered:
        raise NotFound
    return json_answer(_task(task).model_dump())


@blueprint.get("/models")
@operation(
    summary="List the models",
    tag="Catalogue",
    description="Every model with its price, limits, health, and latency and error rate of the last five minutes, at most two seconds old.",
    parameters=page_parameters("Models"),
    answers={200: Answer("A page of models.", ModelList, headers=LINK)},
)
def list_models() -> Response:
    """A page of the models."""
    live = remembered("live_models", _Live)
    return page_answer([*context().catalogue.offered_models], lambda name: _model(name, live).model_dump())


@blueprint.get("/models/<model>")
@operation(summary="Get a model", tag="Catalogue", answers={200: Answer("The model.", ModelBody)}, errors=(NotFound,))
def get_model(model: str) -> Response:
    """One model."""
    if model not in context().catalogue.offered_models:
        raise NotFound
    return json_answer(_model(model, remembered("live_models", _Live)).model_dump())


def _task(name: str) -> TaskBody:
    catalogue = context().catalogue
    spec, contract = catalogue.tasks[name], catalogue.contracts[name]
    return TaskBody(
        id=name,
        summary=contract.summary,
        default_model=spec.default_model,
        policy=spec.policy,
        weights=spec.weights,
        interchangeable=spec.interchangeable,
        models=list(catalogue.models_of_task(name)),
        input_schema=contract.input.model_json_schema(),
        output_schema=contract.output.model_json_schema(mode="serialization"),
        examples=[ExampleBody(title=example.title, input=example.input) for example in contract.examples],
        limits=TaskLimits(
            timeout_s=spec.timeout_s,
            max_timeout_s=spec.max_timeout_s,
            max_output_bytes=spec.max_output_bytes,
            retention_s=spec.retention_s,
        ),
        urls={"self": f"{base_url()}/v1/tasks/{name}", "submit": f"{base_url()}/v1/jobs"},
    )


def _model(name: str, live: _Live) -> ModelBody:
    spec = context().catalogue.models[name]
    installed = context().installed(name)
    stats = live.stats.get(name)
    return ModelBody(
        id=name,
        task=spec.task,
        default=context().catalogue.tasks[spec.task].default_model == name,
        pool=spec.pool,
        backend=_backend_kind(spec),
        version=spec.version,
        description=spec.description,
        license=spec.license,
        quality=None if (quality := context().quality(name)) is None else round(quality, 4),
        price=PriceBody(**spec.price.model_dump()),
        limits=ModelLimits(max_batch_size=spec.max_batch_size, max_batch_items=spec.max_batch_items),
        lacks=spec.lacks,
        installed=installed,
        health=_health(live.workers.get(spec.pool, PoolWorkers()), live.breakers.get(name), installed=installed),
        latency=_latency(stats),
        error_rate=None if stats is None else round(stats.error_rate, 4),
        urls={
            "self": f"{base_url()}/v1/models/{name}",
            "report": f"{base_url()}/v1/models/{name}/report",
            "task": f"{base_url()}/v1/tasks/{spec.task}",
            "queue": f"{base_url()}/v1/queues/{spec.pool}",
        },
    )


def _latency(stats: LiveStats | None) -> LatencyBody | None:
    if stats is None or stats.p50_ms is None or stats.p95_ms is None:
        return None
    return LatencyBody(samples=stats.succeeded, run_p50_ms=stats.p50_ms, run_p95_ms=stats.p95_ms)


def _health(workers: PoolWorkers, breaker: Breaker | None, *, installed: bool) -> ModelHealth:
    shown = None
    if breaker is not None:
        shown = BreakerBody(
            state=breaker.state.value,
            failures_in_row=breaker.failures_in_row,
            code=breaker.code,
            opened_at=breaker.opened_at,
            next_probe_at=breaker.probe_at,
        )
    if not installed:
        return ModelHealth(status="not_installed", ready_workers=workers.ready, breaker=shown)
    if breaker is not None and breaker.state is not State.CLOSED:
        return ModelHealth(status="out_of_order", ready_workers=workers.ready, breaker=shown)
    return ModelHealth(status="ready" if workers.ready else "no_workers", ready_workers=workers.ready, breaker=shown)


def _backend_kind(spec: ModelSpec) -> str:
    """The name of the backend's module: what it is, and nothing of how the code is laid out."""
    return spec.backend.partition(":")[0].rpartition(".")[2]
