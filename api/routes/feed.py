"""The feed of events: what webhooks say, in order, to be pulled."""

from uuid import UUID

import orjson
from flask import Blueprint, Response

from api.answers import json_answer
from api.auth import principal
from api.context import context
from api.operation import Answer, Parameter, operation
from api.query import DEFAULT_LIMIT, MAX_LIMIT, id_of, limit, read_query
from api.schemas.webhooks import EventPage
from api.urls import base_url
from domain.errors import UnknownEvent
from domain.ids import Prefix, encode
from models.event_body import render_bodies
from models.queries.event_feed import read_feed
from models.queries.feed_end import newest_event
from models.transactions import statement, unit_of_work

blueprint = Blueprint("feed", __name__, url_prefix="/v1/events")

NEWEST = "newest"  # in the place of an id: nothing but where the feed ends now

_read_id = id_of(Prefix.EVENT)


@blueprint.get("")
@operation(
    summary="Pull events",
    tag="Webhooks",
    description="The events that webhooks send, whether or not an endpoint wants them (`job.started` only where an endpoint or a job asks for it), "
    "in an order that never changes: "
    "pull with `after`, keep `next_cursor`, pull again with it. An empty page means that nothing has happened since.",
    parameters=(
        Parameter("after", "query", "Events after this one; from the first that is kept if left out; with `newest` no events, and where they end now."),
        Parameter("limit", "query", "Events on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    ),
    answers={200: Answer("The events, the first first.", EventPage, headers={"Link": 'What follows, as `<…>; rel="next"`, if there is more now.'})},
    errors=(UnknownEvent,),
)
def pull_events() -> Response:
    """A page of the caller's events."""
    api, tenant_id = context(), principal().tenant_id
    given = read_query({"after": _after, "limit": limit})
    after: UUID | str | None = given.get("after")
    wanted: int = given.get("limit", DEFAULT_LIMIT)
    if isinstance(after, str):
        with statement(api.engine) as connection:
            newest = newest_event(connection, tenant_id=tenant_id)
        return json_answer({"data": [], "next_cursor": newest and encode(Prefix.EVENT, newest)})
    with unit_of_work(api.engine) as connection:
        events = read_feed(connection, tenant_id=tenant_id, after=after, limit=wanted + 1)
        if events is None:
            raise UnknownEvent
        page = events[:wanted]
        bodies = render_bodies(connection, events=page, base_url=api.public_url)
    data = [orjson.Fragment(b'{"id":"%b",%b' % (encode(Prefix.EVENT, event.id).encode(), bodies[event.id][1:])) for event in page]
    last = page[-1].id if page else after
    following = encode(Prefix.EVENT, last) if last else None
    headers = {"Link": f'<{base_url()}/v1/events?limit={wanted}&after={following}>; rel="next"'} if len(events) > wanted else None
    return json_answer({"data": data, "next_cursor": following}, headers=headers)


def _after(text: str) -> UUID | str:
    return NEWEST if text == NEWEST else _read_id(text)
