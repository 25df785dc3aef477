"""The body of a public event: rendered once, stored, and signed as it is stored. The feed renders by the same function what no receiver was sent.

Bodies are thin: a job without its input, its output up to 16 KiB.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from domain.event_types import EventType
from domain.ids import Prefix, encode
from domain.job import Status
from models.job_json import batch_json, job_json, output_file_json, stored_json, to_json
from models.queries.batches import BatchView, get_batch
from models.queries.endpoints import EndpointView, get_endpoint
from models.queries.event_feed import FeedEvent, get_events, store_bodies
from models.queries.read import JobView, erased_jobs, get_thin_jobs

OUTPUT_BYTES = 16_384  # API.md: a larger output is left out


def event_body(
    event: FeedEvent,
    *,
    base_url: str,
    job: JobView | None = None,
    output_truncated: bool = False,
    batch: BatchView | None = None,
    endpoint: EndpointView | None = None,
) -> bytes:
    """The bytes of ``{"type", "timestamp", "data"}``; the same for the same arguments.

    Args:
        event: what happened.
        base_url: where clients find the API, without a slash at the end.
        job: the job that it is of; None if it is gone.
        output_truncated: whether the job's output was left out already, as it is too large.
        batch: the batch that it is of; None if it is gone.
        endpoint: the endpoint that it speaks of; None if it is gone.
    """
    if event.job_id is not None:
        data = {"id": encode(Prefix.JOB, event.job_id), "object": "job"} if job is None else _job_data(event, job, base_url, cut=output_truncated)
    elif event.batch_id is not None:
        data = {"id": encode(Prefix.BATCH, event.batch_id), "object": "batch"} if batch is None else batch_json(batch, base_url)
    elif event.endpoint_id is not None:
        data = _endpoint_data(event.endpoint_id, endpoint)
    else:
        data = {}
    return to_json({"type": event.type, "timestamp": event.created_at, "data": data})


def render_bodies(connection: Connection, *, events: Sequence[FeedEvent], base_url: str) -> dict[UUID, bytes]:
    """The bodies of events: those that are stored as they are, the others rendered from how things stand now. Stores and locks nothing."""
    bodies = {event.id: event.body for event in events if event.body is not None}
    missing = [event for event in events if event.body is None]
    jobs_of: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for event in missing:
        if event.job_id is not None:
            jobs_of[event.tenant_id].append(event.job_id)
    jobs: dict[UUID, tuple[JobView, bool]] = {}
    for tenant_id, ids in jobs_of.items():
        jobs |= get_thin_jobs(connection, tenant_id=tenant_id, ids=ids, output_bytes=OUTPUT_BYTES)
    for event in missing:
        job, cut = jobs.get(event.job_id, (None, False)) if event.job_id else (None, False)
        batch = get_batch(connection, tenant_id=event.tenant_id, batch_id=event.batch_id) if event.batch_id else None
        endpoint = get_endpoint(connection, tenant_id=event.tenant_id, endpoint_id=event.endpoint_id) if event.endpoint_id else None
        bodies[event.id] = event_body(event, base_url=base_url, job=job, output_truncated=cut, batch=batch, endpoint=endpoint)
    return bodies


def ensure_bodies(connection: Connection, *, event_ids: Sequence[UUID], base_url: str) -> dict[UUID, bytes]:
    """The bodies to sign and send: renders and stores those that are not stored; call it in a unit of work.

    Locks the rows of the events that it stores. Two callers at once get the same bytes.

    Returns:
        By event; one that is gone is left out, and so is one whose body went with its job's result: another one must not be sent as the same.
    """
    events = get_events(connection, ids=event_ids)
    erased = erased_jobs(connection, ids=[event.job_id for event in events if event.body is None and event.job_id is not None])
    events = [event for event in events if event.job_id not in erased or event.body is not None]
    bodies = render_bodies(connection, events=events, base_url=base_url)
    stored = store_bodies(connection, bodies={event.id: bodies[event.id] for event in events if event.body is None})
    return {event.id: event.body for event in events if event.body is not None} | stored


def _job_data(event: FeedEvent, job: JobView, base_url: str, *, cut: bool) -> dict[str, Any]:
    if event.type == EventType.JOB_STARTED:  # it may have ended before this is rendered
        job = replace(
            job,
            status=Status.RUNNING,
            finished_at=None,
            expires_at=None,
            run_ms=0.0,
            input_tokens=None,
            output_tokens=None,
            cost_usd=None,
            error_json=None,
            output_json=None,
            output_file=None,
        )
        cut = False
    cut = cut or job.output_file is not None or (job.output_json is not None and len(job.output_json.encode()) > OUTPUT_BYTES)
    output = None if cut else stored_json(job.output_json)
    return {**job_json(job, base_url, whole=False), "output": output, "output_truncated": cut, "output_file": output_file_json(job, base_url)}


def _endpoint_data(endpoint_id: UUID, endpoint: EndpointView | None) -> dict[str, Any]:
    data: dict[str, Any] = {"id": encode(Prefix.ENDPOINT, endpoint_id), "object": "webhook_endpoint"}
    if endpoint is not None:
        data |= {"url": endpoint.url, "enabled": endpoint.enabled, "disabled_reason": endpoint.disabled_reason, "failing_since": endpoint.failing_since}
    return data
