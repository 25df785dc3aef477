"""``Prefer: wait`` (RFC 7240): holding an answer until its job is final."""

import re
from dataclasses import replace
from uuid import UUID

from flask import request

from api.context import ApiContext
from models.queries.read import JobView, get_job
from models.transactions import DatabaseAway, LockedRow, statement

MAX_WAIT_S = 60
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*(?:"(\d{1,9})"|(\d{1,9}))\s*(?=[,;]|$)', re.IGNORECASE | re.ASCII)


def preferred_wait_s() -> int:
    """How long this request asks to be held, 60 s at most; 0 where it does not ask, or in a way that RFC 7240 says to ignore."""
    header = request.environ.get("HTTP_PREFER")
    found = _WAIT.search(header) if header else None
    return min(int(found[1] or found[2]), MAX_WAIT_S) if found else 0


def wait_until_final(job: JobView, wait_s: float, *, context: ApiContext) -> tuple[JobView, bool]:
    """Holds the request until its job is final or the time is over.

    No connection is held meanwhile. Where the server holds as many requests as it may, or the database goes away, the answer comes
    at once with what is known.

    Returns:
        The job as it stands, and whether the wait was kept.
    """
    with context.watcher.watch(job.id, seen=job.event_seq, end_alone=True) as watch:
        if watch is None:
            return job, False
        watch.wait(wait_s)
        state, kept = watch.state, not watch.away
    if state is None:
        return job, kept
    if state.ended_job is not None:
        return replace(state.ended_job, input_json=None if state.ended_job.erased_at else job.input_json), kept
    return _again(job, context), kept


def read_job_view(context: ApiContext, tenant_id: UUID, job_id: UUID) -> JobView | None:
    """A job as the database has it now."""
    with statement(context.engine) as connection:
        return get_job(connection, tenant_id=tenant_id, job_id=job_id)


def _again(job: JobView, context: ApiContext) -> JobView:
    try:
        return read_job_view(context, job.tenant_id, job.id) or job
    except (DatabaseAway, LockedRow):
        return job
