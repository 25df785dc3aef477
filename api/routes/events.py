"""A job's history: as a JSON list, or as a stream of server-sent events that ends with the job."""

from collections.abc import Iterator
from uuid import UUID

from flask import Blueprint, Response, request

from api.answers import json_answer
from api.auth import principal
from api.context import ApiContext, context
from api.job_answer import job_answer
from api.operation import Answer, Parameter, operation
from api.pages import LINK, page_parameters
from api.query import DEFAULT_LIMIT, cursor, limit, read_query, write_cursor
from api.schemas.jobs import JobEventList
from api.urls import base_url
from api.waiting import read_job_view
from api.watcher import Watch
from domain.errors import InvalidHeader, NotFound, Overloaded
from domain.ids import Prefix, decode
from domain.job import FINAL
from models.job_json import event_json, to_json
from models.queries.read import JobView, events_after
from models.transactions import DatabaseAway, LockedRow, statement

blueprint = Blueprint("events", __name__, url_prefix="/v1/jobs")

EVENT_STREAM = "text/event-stream"
HEARTBEAT_S = 15.0
PAGE = 200
_HEARTBEAT = b": still here\n\n"
_FINAL_VALUES = frozenset(status.value for status in FINAL)


@blueprint.get("/<job_id>/events")
@operation(
    summary="Follow a job's history",
    tag="Jobs",
    description=(
        "A list, or with `Accept: text/event-stream` a stream: `id` is the event's number, events are `status`, `progress`, `log` and "
        "`output.delta`, and last of all `completed` with the job. A piece of output with `restarted: true` makes the pieces before it void."
    ),
    parameters=(
        Parameter("id", "path", "The job's id.", required=True),
        *page_parameters("Events"),
        Parameter("Last-Event-ID", "header", "Streams resume after this event."),
    ),
    answers={200: Answer("The events, the first first.", JobEventList, headers=LINK)},
    errors=(NotFound, InvalidHeader, Overloaded),
)
def list_events(job_id: str) -> Response:
    """What happened to a job."""
    api = context()
    query = read_query({"limit": limit, "cursor": cursor})
    decoded = decode(Prefix.JOB, job_id)
    job = read_job_view(api, principal().tenant_id, decoded) if decoded else None
    if job is None:
        raise NotFound("There is no such job.")
    if request.method == "GET" and EVENT_STREAM in request.headers.get("Accept", ""):
        return _stream(api, job)
    size: int = query.get("limit", DEFAULT_LIMIT)
    after: UUID = query.get("cursor", UUID(int=0))
    with statement(api.engine) as connection:
        events = events_after(connection, job_id=job.id, after_seq=after.int & 0x7FFF_FFFF, limit=size + 1)
    page = events[:size]
    following = write_cursor(UUID(int=page[-1].seq)) if len(events) > size else None
    headers = {"Link": f'<{base_url()}{request.path}?limit={size}&cursor={following}>; rel="next"'} if following else {}
    return json_answer({"data": [event_json(event) for event in page], "next_cursor": following}, 200, headers)


def _stream(api: ApiContext, job: JobView) -> Response:
    seen = _last_event_id()
    slot = api.watcher.watch(job.id, seen=job.event_seq)
    watch = slot.__enter__()
    if watch is None:
        slot.__exit__(None, None, None)
        raise Overloaded("As many requests are held as may be; ask for the list, or again later.", retry_after_s=5.0)
    answer = Response(_events(api, job, watch, seen, base_url()), 200, {"X-Accel-Buffering": "no"}, content_type=f"{EVENT_STREAM}; charset=utf-8")
    answer.call_on_close(lambda: slot.__exit__(None, None, None))
    return answer


def _events(api: ApiContext, job: JobView, watch: Watch, seen: int, base: str) -> Iterator[bytes]:
    """The stream. It ends early when the database goes away or the process stops: the client resumes by ``Last-Event-ID``."""
    ended = job.status.final
    try:
        while True:
            with statement(api.engine) as connection:
                events = events_after(connection, job_id=job.id, after_seq=seen, limit=PAGE)
            for event in events:
                seen = event.seq
                ended = ended or event.status in _FINAL_VALUES
                yield _event(event.type, event.seq, to_json(event_json(event)))
            if len(events) == PAGE:
                continue
            if ended:
                break
            if watch.wait(HEARTBEAT_S) is None:
                if watch.gone or watch.away:
                    return
                yield _HEARTBEAT
        whole = read_job_view(api, job.tenant_id, job.id)
        body = None if whole is None else job_answer(whole, base, context=api)
    except (DatabaseAway, LockedRow):
        return
    if body is not None:
        yield _event("completed", seen, to_json(body))


def _event(kind: str, seq: int, data: bytes) -> bytes:
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), seq, data)


def _last_event_id() -> int:
    text = request.headers.get("Last-Event-ID", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidHeader("Last-Event-ID takes the number of an event.")
    return int(text)
