"""Webhook deliveries: what was sent where, what came of every try, and sending again."""

from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, Response, request

from api.answers import json_answer
from api.auth import principal
from api.context import context
from api.delivery_json import delivery_json, try_json
from api.json_gate import json_object, refuse_fields
from api.operation import Answer, Parameter, operation
from api.query import DEFAULT_LIMIT, MAX_LIMIT, cursor, id_of, limit, moment, one_of, read_query, write_cursor
from api.schemas.jobs import parse_time
from api.schemas.webhooks import Delivery, DeliveryList, DeliveryState, DeliveryWithTries, Redelivered, RedeliverRequest
from api.urls import base_url
from api.validation import validate
from domain.errors import EndpointDisabled, FieldError, NotFound, ValidationFailed
from domain.event_types import EventType
from domain.ids import Prefix, decode
from models.queries.delivery_history import DeliveryFilters, get_delivery, list_deliveries, redeliver, redeliver_range, tries_of
from models.transactions import statement, unit_of_work

blueprint = Blueprint("webhook_deliveries", __name__, url_prefix="/v1/webhook-deliveries")

REDELIVER_AT_ONCE = 10_000

_READERS = {
    "limit": limit,
    "cursor": cursor,
    "endpoint_id": id_of(Prefix.ENDPOINT),
    "event_id": id_of(Prefix.EVENT),
    "job_id": id_of(Prefix.JOB),
    "state": one_of(DeliveryState),
    "type": one_of(EventType),
    "created_after": moment,
    "created_before": moment,
}
_TIME = {"type": "string", "format": "date-time"}
_ID = Parameter("delivery_id", "path", "The delivery's id.", required=True)
_PARAMETERS = (
    Parameter("limit", "query", "Deliveries on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    Parameter("cursor", "query", "The `next_cursor` of the page before."),
    Parameter("endpoint_id", "query", "Deliveries to this endpoint."),
    Parameter("event_id", "query", "Deliveries of this event."),
    Parameter("job_id", "query", "Deliveries that speak of this job."),
    Parameter("state", "query", "Deliveries that stand so.", {"type": "string", "enum": [state.value for state in DeliveryState]}),
    Parameter("type", "query", "Deliveries of events of this type.", {"type": "string", "enum": [kind.value for kind in EventType]}),
    Parameter("created_after", "query", "Deliveries made at this moment or later.", _TIME),
    Parameter("created_before", "query", "Deliveries made earlier than this.", _TIME),
)


@blueprint.get("")
@operation(
    summary="List deliveries",
    tag="Webhooks",
    description="The newest first.",
    parameters=_PARAMETERS,
    answers={200: Answer("A page of deliveries.", DeliveryList, headers={"Link": 'The next page, as `<…>; rel="next"`; not on the last one.'})},
)
def list_of_deliveries() -> Response:
    """A page of the caller's deliveries."""
    given = read_query(_READERS)
    wanted: int = given.pop("limit", DEFAULT_LIMIT)
    last: UUID | None = given.pop("cursor", None)
    with statement(context().engine) as connection:
        deliveries = list_deliveries(connection, tenant_id=principal().tenant_id, filters=DeliveryFilters(**given), after=last, limit=wanted + 1)
    page, base = deliveries[:wanted], base_url()
    following = write_cursor(page[-1].id) if len(deliveries) > wanted else None
    headers = {"Link": f'<{base}/v1/webhook-deliveries?{_next_query(following)}>; rel="next"'} if following else None
    return json_answer({"data": [delivery_json(delivery, base) for delivery in page], "next_cursor": following}, headers=headers)


@blueprint.get("/<delivery_id>")
@operation(
    summary="Look at a delivery",
    tag="Webhooks",
    parameters=(_ID,),
    answers={200: Answer("The delivery and every try.", DeliveryWithTries)},
    errors=(NotFound,),
)
def look_at_delivery(delivery_id: str) -> Response:
    """One delivery with its tries."""
    wanted = _decoded(delivery_id)
    with unit_of_work(context().engine) as connection:
        delivery = get_delivery(connection, tenant_id=principal().tenant_id, delivery_id=wanted)
        if delivery is None:
            raise NotFound("There is no such delivery.")
        tries = tries_of(connection, delivery_id=delivery.id)
    return json_answer({**delivery_json(delivery, base_url()), "history": [try_json(each) for each in tries]})


@blueprint.post("/<delivery_id>/redeliver")
@operation(
    summary="Send a delivery again",
    tag="Webhooks",
    description="Now, with the same `webhook-id` and body, and with all tries of the schedule if it fails.",
    body_required=False,
    parameters=(_ID,),
    answers={200: Answer("The delivery, waiting to be sent.", Delivery)},
    errors=(NotFound, EndpointDisabled),
)
def redeliver_one(delivery_id: str) -> Response:
    """Sends one delivery again."""
    refuse_fields()
    with unit_of_work(context().engine) as connection:
        delivery = redeliver(connection, tenant_id=principal().tenant_id, delivery_id=_decoded(delivery_id))
    if delivery is None:
        raise NotFound("There is no such delivery.")
    if delivery.finished_at is not None:
        raise EndpointDisabled
    return json_answer(delivery_json(delivery, base_url()))


@blueprint.post("/redeliver")
@operation(
    summary="Send many deliveries again",
    tag="Webhooks",
    description=f"Those that have ended, {REDELIVER_AT_ONCE:,} at most in one call; those to endpoints that are disabled or gone are passed over.",
    body=RedeliverRequest,
    answers={200: Answer("How many wait to be sent again.", Redelivered)},
)
def redeliver_many() -> Response:
    """Sends a range of deliveries again."""
    wanted = validate(RedeliverRequest, json_object())
    with statement(context().engine) as connection:
        count = redeliver_range(
            connection,
            tenant_id=principal().tenant_id,
            endpoint_id=_endpoint_of(wanted),
            state=wanted.state,
            created_after=parse_time(wanted.created_after),
            created_before=None if wanted.created_before is None else parse_time(wanted.created_before),
            limit=REDELIVER_AT_ONCE,
        )
    return json_answer({"object": "webhook_redelivery", "count": count, "more": count == REDELIVER_AT_ONCE})


def _endpoint_of(wanted: RedeliverRequest) -> UUID | None:
    if wanted.endpoint_id is None:
        return None
    endpoint_id = decode(Prefix.ENDPOINT, wanted.endpoint_id)
    if endpoint_id is None:
        raise ValidationFailed(errors=[FieldError("/endpoint_id", "invalid_value", f"is no id; one begins with {Prefix.ENDPOINT}_")])
    return endpoint_id


def _decoded(public_id: str) -> UUID:
    delivery_id = decode(Prefix.DELIVERY, public_id)
    if delivery_id is None:
        raise NotFound("There is no such delivery.")
    return delivery_id


def _next_query(following: str) -> str:
    return urlencode([*((name, value) for name, value in request.args.items() if name != "cursor"), ("cursor", following)])
