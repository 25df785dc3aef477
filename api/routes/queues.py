"""Queues: what waits and runs, pool by pool, and how many workers a pool should have. The autoscaler reads it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from flask import Blueprint, Flask, Response
from flask.blueprints import BlueprintSetupState

from api.answers import json_answer
from api.context import EXTENSION, ApiContext, context
from api.operation import Answer, operation
from api.pages import LINK, page_answer, page_parameters
from api.remembered import remember, remembered
from api.schemas.queues import LaneBody, QueueBody, QueueList
from api.urls import base_url
from domain.catalogue import QueueName
from domain.errors import NotFound
from models.queries.queues import LaneLoad, PoolWorkers, lane_loads, pool_workers
from models.remembered import Remembered
from models.transactions import unit_of_work

LIVE_S = 1.0
CLEAR_BACKLOG_S = 60.0  # desired_workers clears what waits within so long

blueprint = Blueprint("queues", __name__, url_prefix="/v1/queues")


@dataclass(frozen=True, slots=True)
class _Live:
    """How all queues stand."""

    lanes: Mapping[QueueName, LaneLoad]
    workers: Mapping[str, PoolWorkers]


@blueprint.record
def _install(state: BlueprintSetupState) -> None:
    app = cast("Flask", state.app)
    remember(app, "live_queues", Remembered(lambda: _load(app.extensions[EXTENSION]), ttl_s=LIVE_S))


def _load(the_context: ApiContext) -> _Live:
    with unit_of_work(the_context.engine) as connection:
        lanes = lane_loads(connection, now=the_context.now())
        return _Live(lanes={QueueName(lane.pool, lane.priority): lane for lane in lanes}, workers=pool_workers(connection))


@blueprint.get("")
@operation(
    summary="List the queues",
    tag="Queues",
    description="Every pool and its lanes. Jobs are counted in the database, all tenants together, at most a second ago.",
    parameters=page_parameters("Pools"),
    answers={200: Answer("A page of pools.", QueueList, headers=LINK)},
)
def list_queues() -> Response:
    """A page of the pools."""
    live = remembered("live_queues", _Live)
    return page_answer([*context().catalogue.pools], lambda pool: _queue(pool, live).model_dump())


@blueprint.get("/<pool>")
@operation(
    summary="Get a pool's queues",
    tag="Queues",
    description="`desired_workers` is what an autoscaler should aim at.",
    answers={200: Answer("The pool.", QueueBody)},
    errors=(NotFound,),
)
def get_queue(pool: str) -> Response:
    """One pool."""
    if pool not in context().catalogue.pools:
        raise NotFound
    return json_answer(_queue(pool, remembered("live_queues", _Live)).model_dump())


def desired_workers(lanes: Sequence[LaneLoad], workers: PoolWorkers, *, concurrency: int) -> int:
    """How many worker processes a pool should have.

    A *slot* runs one batch at a time; a worker has ``concurrency`` of them. What one busy slot brings to an end per second is
    measured: the workers' ``finish_per_s`` divided by the batches they run. Then

        slots   = max(busy, arrival_per_s / per_slot) + min(due, due / (60 × per_slot))
        desired = ceil(slots / concurrency), at least 1

    The first term keeps up with what arrives, the second clears what waits and is due within a minute; a waiting job never asks
    for more than one slot. While nothing has been measured (no worker yet, or none has finished a job) what is there stays,
    one worker at least: it starts, and its rate decides the next step. 0 only if nothing is queued, delayed or running. The
    answer has no memory: damping and limits are the autoscaler's.

    Args:
        lanes: all priorities of the pool.
        workers: its workers as they were last seen.
        concurrency: slots of one worker that is yet to start.
    """
    queued = sum(lane.queued for lane in lanes)
    due = queued - sum(lane.delayed for lane in lanes)
    if queued + sum(lane.running for lane in lanes) == 0:
        return 0
    if workers.workers and workers.concurrency:
        concurrency = math.ceil(workers.concurrency / workers.workers)
    if not workers.busy or not workers.finish_per_s:
        return max(1, workers.workers if due else math.ceil(workers.busy / concurrency))
    per_slot = workers.finish_per_s / workers.busy
    arriving = sum(lane.arrival_per_s for lane in lanes)
    slots = max(workers.busy, arriving / per_slot) + min(due, due / (CLEAR_BACKLOG_S * per_slot))
    return max(1, math.ceil(slots / concurrency))


def _queue(pool: str, live: _Live) -> QueueBody:
    spec = context().catalogue.pools[pool]
    lanes = [live.lanes.get(queue, LaneLoad(pool, queue.priority)) for queue in context().catalogue.queues_of_pool(pool)]
    workers = live.workers.get(pool, PoolWorkers())
    return QueueBody(
        pool=pool,
        queued=sum(lane.queued for lane in lanes),
        delayed=sum(lane.delayed for lane in lanes),
        running=sum(lane.running for lane in lanes),
        oldest_queued_s=max(lane.oldest_queued_s for lane in lanes),
        arrival_per_s=sum(lane.arrival_per_s for lane in lanes),
        finish_per_s=workers.finish_per_s,
        workers=workers.workers,
        ready_workers=workers.ready,
        concurrency=workers.concurrency,
        busy=workers.busy,
        desired_workers=desired_workers(lanes, workers, concurrency=spec.concurrency),
        lanes=[_lane(lane) for lane in lanes],
        urls={"self": f"{base_url()}/v1/queues/{pool}"},
    )


def _lane(lane: LaneLoad) -> LaneBody:
    return LaneBody(
        priority=lane.priority,
        queue=str(QueueName(lane.pool, lane.priority)),
        queued=lane.queued,
        delayed=lane.delayed,
        running=lane.running,
        oldest_queued_s=lane.oldest_queued_s,
        arrival_per_s=lane.arrival_per_s,
    )
