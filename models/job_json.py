"""A job and a batch as JSON, from what the database says of it: the same in an answer of the API and in the body of an event."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from domain.ids import Prefix, encode
from domain.job import Status
from models.queries.batches import BatchResult, BatchView
from models.queries.files import FileView
from models.queries.read import AttemptView, EventView, JobView

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC


def to_json(value: object) -> bytes:
    """JSON in UTF-8: times in RFC 3339 with ``Z``, money as a decimal string; ``orjson.Fragment`` is put in as it stands."""
    return orjson.dumps(value, _decimal, _OPTIONS)


def stored_json(text: str | None) -> orjson.Fragment | None:
    """JSON text from the database, to be put into a document unparsed."""
    return None if text is None else orjson.Fragment(text)


def output_file_json(of: JobView | BatchResult, base: str) -> dict[str, Any] | None:
    """Where a job's output is, if it is too large to be shown; else None."""
    if of.output_file is None:
        return None
    public_id = encode(Prefix.FILE, of.output_file)
    return {"id": public_id, "bytes": of.output_file_bytes, "urls": file_urls(public_id, base)}


def file_json(file: FileView, base: str) -> dict[str, Any]:
    """A file, as ``API.md`` shows it."""
    public_id = encode(Prefix.FILE, file.id)
    return {
        "id": public_id,
        "object": "file",
        "sha256": file.sha256.hex(),
        "bytes": file.size_bytes,
        "content_type": file.content_type,
        "filename": file.filename,
        "job_id": None if file.job_id is None else encode(Prefix.JOB, file.job_id),
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "urls": file_urls(public_id, base),
    }


def file_urls(public_id: str, base: str) -> dict[str, str]:
    """Where to go from a file."""
    return {"self": f"{base}/v1/files/{public_id}", "content": f"{base}/v1/files/{public_id}/content"}


def job_json(job: JobView, base: str, *, whole: bool = True) -> dict[str, Any]:
    """A job, as ``API.md`` shows it; ``input`` and ``output`` are put in as the database stores them.

    Args:
        job: what the database says.
        base: where the API is, without a slash at the end; empty makes URLs relative.
        whole: with input and output; lists leave them out.
    """
    public_id = encode(Prefix.JOB, job.id)
    url = f"{base}/v1/jobs/{public_id}"
    body: dict[str, Any] = {
        "id": public_id,
        "object": "job",
        "task": job.task,
        "model": job.model,
        "priority": job.priority,
        "status": job.status,
    }
    if whole:
        body["input"] = stored_json(job.input_json)
        body["output"] = stored_json(job.output_json)
        body["output_file"] = output_file_json(job, base)
    body |= {
        "error": stored_json(job.error_json),
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "created_at": job.created_at,
        "available_at": job.available_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "deadline_at": job.deadline_at,
        "expires_at": job.expires_at,
        "timing": {
            "queue_ms": round(job.queue_ms, 3) if job.started_at else None,
            "run_ms": round(job.run_ms, 3) if job.run_ms else None,
            "total_ms": _milliseconds(job.created_at, job.finished_at),
        },
        "usage": None
        if job.input_tokens is None
        else {"input_tokens": job.input_tokens, "output_tokens": job.output_tokens or 0, "cost_usd": job.cost_usd or "0"},
        "cached": False,
        "routing": _routing(job),
        "metadata": stored_json(job.metadata_json) or {},
        "batch_id": encode(Prefix.BATCH, job.batch_id) if job.batch_id else None,
        "custom_id": job.custom_id,
        "rerun_of": encode(Prefix.JOB, job.rerun_of) if job.rerun_of else None,
        "parent_id": encode(Prefix.JOB, job.parent_id) if job.parent_id else None,
        "urls": {"self": url, "cancel": f"{url}/cancel", "rerun": f"{url}/rerun", "events": f"{url}/events", "attempts": f"{url}/attempts"},
    }
    return body


def attempt_json(attempt: AttemptView) -> dict[str, Any]:
    """An attempt."""
    return {
        "id": encode(Prefix.ATTEMPT, attempt.id) if attempt.id else None,
        "object": "attempt",
        "number": attempt.attempt,
        "model": attempt.model,
        "worker": attempt.worker,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "outcome": attempt.outcome,
        "error": stored_json(attempt.error_json),
        "timing": {"run_ms": _milliseconds(attempt.started_at, attempt.ended_at)},
    }


def event_json(event: EventView) -> dict[str, Any]:
    """An event."""
    return {
        "seq": event.seq,
        "type": event.type,
        "attempt": event.attempt,
        "status": event.status,
        "created_at": event.created_at,
        "data": stored_json(event.data_json),
    }


def batch_json(batch: BatchView, base: str) -> dict[str, Any]:
    """A batch, as ``API.md`` shows it."""
    public_id = encode(Prefix.BATCH, batch.id)
    url = f"{base}/v1/batches/{public_id}"
    return {
        "id": public_id,
        "object": "batch",
        "total": batch.total,
        "counts": {each.value: batch.counts.get(each, 0) for each in Status},
        "created_at": batch.created_at,
        "canceled_at": batch.canceled_at,
        "finished_at": batch.finished_at,
        "urls": {"self": url, "results": f"{url}/results", "cancel": f"{url}/cancel"},
    }


def _routing(job: JobView) -> dict[str, Any] | None:
    """The decision as it was made, and what has become of it since."""
    if job.routing_json is None:
        return None
    failovers = orjson.loads(job.failovers_json) if job.failovers_json else []
    return {
        **{name: part for name, part in orjson.loads(job.routing_json).items() if name != "cascade"},
        "failovers": [{name: move[name] for name in ("from", "to", "code", "at")} for move in failovers],
    }


def _milliseconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else round((end - start).total_seconds() * 1000, 3)


def _decimal(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    raise TypeError(f"{type(value).__name__} cannot be shown as JSON")
