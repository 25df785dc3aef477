"""Webhook endpoints: register, look, change, delete, rotate the secret, try out."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Blueprint, Response

from api.answers import json_answer
from api.auth import principal
from api.context import ApiContext, context
from api.delivery_json import delivery_json
from api.json_gate import json_object, refuse_fields
from api.operation import Answer, Parameter, operation
from api.query import DEFAULT_LIMIT, MAX_LIMIT, cursor, limit, read_query, write_cursor
from api.schemas.webhooks import Delivery, Endpoint, EndpointChanges, EndpointList, EndpointRequest, NewEndpoint, NewSecret
from api.signing_secrets import SigningSecrets
from api.urls import base_url
from api.validation import validate
from api.webhook_urls import read_webhook_url
from domain.errors import EndpointDisabled, NotFound, ServiceUnavailable, TooManyEndpoints, WebhooksNotConfigured
from domain.ids import Prefix, decode, encode
from models.identity import new_id
from models.queries.delivery_history import get_delivery
from models.queries.endpoints import EndpointView, change_endpoint, count_endpoints, create_endpoint, delete_endpoint, get_endpoint, list_endpoints
from models.queries.event_feed import add_ping
from models.transactions import statement, unit_of_work

blueprint = Blueprint("webhook_endpoints", __name__, url_prefix="/v1/webhook-endpoints")

MAX_ENDPOINTS = 100  # of a tenant
DEFAULT = "default"  # in the place of an id: the secret that signs webhooks of single jobs

_ID = Parameter("endpoint_id", "path", "The endpoint's id.", required=True)
_PAGE = (
    Parameter("limit", "query", "Endpoints on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    Parameter("cursor", "query", "The `next_cursor` of the page before."),
)


@blueprint.post("")
@operation(
    summary="Register an endpoint",
    tag="Webhooks",
    description="The answer shows its secret, this once. Events come by POST, signed by Standard Webhooks: `webhook-id`, `webhook-timestamp`, "
    "`webhook-signature`. Answer with a status of 200 to 299 within 15 seconds; anything else is tried again for three days.",
    body=EndpointRequest,
    answers={201: Answer("The endpoint and its secret.", NewEndpoint, headers={"Location": "The endpoint."})},
    errors=(TooManyEndpoints, WebhooksNotConfigured),
)
def register_endpoint() -> Response:
    """Takes an address, and makes a secret for it."""
    api, tenant_id = context(), principal().tenant_id
    secrets = _secrets(api)
    wanted = validate(EndpointRequest, json_object())
    target = read_webhook_url(wanted.url, context=api, pointer="/url")
    with unit_of_work(api.engine) as connection:
        if count_endpoints(connection, tenant_id=tenant_id) >= MAX_ENDPOINTS:
            raise TooManyEndpoints(f"There are {MAX_ENDPOINTS} endpoints, as many as may be; delete one first.")
        endpoint = create_endpoint(
            connection,
            endpoint_id=new_id(),
            tenant_id=tenant_id,
            url=target.url,
            description=wanted.description,
            events=None if wanted.events is None else tuple(wanted.events),
            enabled=wanted.enabled,
        )
        secret = secrets.make(connection, tenant_id=tenant_id, endpoint_id=endpoint.id)
    body = _endpoint(endpoint)
    return json_answer({**body, "secret": secret.text}, 201, {"Location": body["urls"]["self"], **_NOT_KEPT})


@blueprint.get("")
@operation(
    summary="List the endpoints",
    tag="Webhooks",
    parameters=_PAGE,
    answers={200: Answer("A page of endpoints.", EndpointList, headers={"Link": 'The next page, as `<…>; rel="next"`; not on the last one.'})},
    errors=(WebhooksNotConfigured,),
)
def list_of_endpoints() -> Response:
    """A page of the caller's endpoints."""
    api = context()
    _secrets(api)
    given = read_query({"limit": limit, "cursor": cursor})
    wanted: int = given.get("limit", DEFAULT_LIMIT)
    with statement(api.engine) as connection:
        endpoints = list_endpoints(connection, tenant_id=principal().tenant_id, after=given.get("cursor"), limit=wanted + 1)
    page = endpoints[:wanted]
    following = write_cursor(page[-1].id) if len(endpoints) > wanted else None
    headers = {"Link": f'<{base_url()}/v1/webhook-endpoints?limit={wanted}&cursor={following}>; rel="next"'} if following else None
    return json_answer({"data": [_endpoint(endpoint) for endpoint in page], "next_cursor": following}, headers=headers)


@blueprint.get("/<endpoint_id>")
@operation(
    summary="Look at an endpoint",
    tag="Webhooks",
    parameters=(_ID,),
    answers={200: Answer("The endpoint.", Endpoint)},
    errors=(NotFound, WebhooksNotConfigured),
)
def look_at_endpoint(endpoint_id: str) -> Response:
    """One endpoint as it stands."""
    api = context()
    _secrets(api)
    with statement(api.engine) as connection:
        endpoint = get_endpoint(connection, tenant_id=principal().tenant_id, endpoint_id=_decoded(endpoint_id))
    return json_answer(_endpoint(_found(endpoint)))


@blueprint.patch("/<endpoint_id>")
@operation(
    summary="Change an endpoint",
    tag="Webhooks",
    description="What is left out stays. Events that were made before keep their deliveries; what is still to be sent goes to the new address.",
    body=EndpointChanges,
    parameters=(_ID,),
    answers={200: Answer("The endpoint.", Endpoint)},
    errors=(NotFound, WebhooksNotConfigured),
)
def update_endpoint(endpoint_id: str) -> Response:
    """Changes what the request names."""
    api = context()
    _secrets(api)
    wanted = validate(EndpointChanges, json_object())
    changes: dict[str, Any] = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    if "url" in changes:
        changes["url"] = read_webhook_url(wanted.url, context=api, pointer="/url").url
    with unit_of_work(api.engine) as connection:
        endpoint = change_endpoint(connection, tenant_id=principal().tenant_id, endpoint_id=_decoded(endpoint_id), changes=changes)
    return json_answer(_endpoint(_found(endpoint)))


@blueprint.delete("/<endpoint_id>")
@operation(
    summary="Delete an endpoint",
    tag="Webhooks",
    description="With its secrets. What waits to be sent to it fails; deliveries stay to be seen.",
    parameters=(_ID,),
    answers={204: Answer("It is gone.")},
    errors=(NotFound, WebhooksNotConfigured),
)
def remove_endpoint(endpoint_id: str) -> Response:
    """Sends nothing there any more."""
    api = context()
    _secrets(api)
    with unit_of_work(api.engine) as connection:
        deleted = delete_endpoint(connection, tenant_id=principal().tenant_id, endpoint_id=_decoded(endpoint_id))
    if not deleted:
        raise NotFound("There is no such endpoint.")
    return Response(status=204)


@blueprint.post("/<endpoint_id>/rotate-secret")
@operation(
    summary="Rotate a secret",
    tag="Webhooks",
    description="The answer shows the new secret, this once. For 24 hours every request is signed with both. "
    "With `default` in the place of an id: the secret that signs the webhooks of single jobs.",
    body_required=False,
    parameters=(Parameter("endpoint_id", "path", "The endpoint's id, or `default`.", required=True),),
    answers={200: Answer("The new secret.", NewSecret)},
    errors=(NotFound, WebhooksNotConfigured),
)
def rotate_secret(endpoint_id: str) -> Response:
    """Makes a new secret; the one before it signs for a while longer."""
    api, tenant_id = context(), principal().tenant_id
    secrets = _secrets(api)
    refuse_fields()
    wanted = None if endpoint_id == DEFAULT else _decoded(endpoint_id)
    with unit_of_work(api.engine) as connection:
        if wanted is not None:
            _found(get_endpoint(connection, tenant_id=tenant_id, endpoint_id=wanted, lock=True))
        secret = secrets.make(connection, tenant_id=tenant_id, endpoint_id=wanted)
    body = {
        "object": "webhook_secret",
        "endpoint_id": None if wanted is None else encode(Prefix.ENDPOINT, wanted),
        "secret": secret.text,
        "previous_expires_at": secret.previous_expires_at,
    }
    return json_answer(body, 200, _NOT_KEPT)


@blueprint.post("/<endpoint_id>/test")
@operation(
    summary="Try an endpoint out",
    tag="Webhooks",
    description="Sends a `ping` now, whatever the endpoint's filter; the answer says where to see what came of it.",
    body_required=False,
    parameters=(_ID,),
    answers={202: Answer("The delivery of the ping.", Delivery, headers={"Location": "The delivery."})},
    errors=(NotFound, EndpointDisabled, WebhooksNotConfigured),
)
def ping_endpoint(endpoint_id: str) -> Response:
    """Sends a ping."""
    api, tenant_id, wanted = context(), principal().tenant_id, _decoded(endpoint_id)
    _secrets(api)
    refuse_fields()
    with unit_of_work(api.engine) as connection:
        if not _found(get_endpoint(connection, tenant_id=tenant_id, endpoint_id=wanted, lock=True)).enabled:
            raise EndpointDisabled
        delivery_id = add_ping(connection, tenant_id=tenant_id, endpoint_id=wanted)
        delivery = None if delivery_id is None else get_delivery(connection, tenant_id=tenant_id, delivery_id=delivery_id)
    if delivery is None:
        raise ServiceUnavailable("The endpoint was changed meanwhile; ask again.", retry_after_s=1.0)
    body = delivery_json(delivery, base_url())
    return json_answer(body, 202, {"Location": body["urls"]["self"]})


_NOT_KEPT: Mapping[str, str] = {"Cache-Control": "no-store"}  # as every answer has it; said here, since these show a secret


def _secrets(api: ApiContext) -> SigningSecrets:
    if api.secrets is None:
        raise WebhooksNotConfigured
    return api.secrets


def _decoded(public_id: str) -> UUID:
    endpoint_id = decode(Prefix.ENDPOINT, public_id)
    if endpoint_id is None:
        raise NotFound("There is no such endpoint.")
    return endpoint_id


def _found(endpoint: EndpointView | None) -> EndpointView:
    if endpoint is None:
        raise NotFound("There is no such endpoint.")
    return endpoint


def _endpoint(endpoint: EndpointView) -> dict[str, Any]:
    public_id, base = encode(Prefix.ENDPOINT, endpoint.id), base_url()
    url = f"{base}/v1/webhook-endpoints/{public_id}"
    return {
        "id": public_id,
        "object": "webhook_endpoint",
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "standing": endpoint.standing,
        "failures": endpoint.failures,
        "failing_since": endpoint.failing_since,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
        "urls": {
            "self": url,
            "rotate_secret": f"{url}/rotate-secret",
            "test": f"{url}/test",
            "deliveries": f"{base}/v1/webhook-deliveries?endpoint_id={public_id}",
        },
    }
