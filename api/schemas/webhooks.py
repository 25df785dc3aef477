"""What webhook endpoints, deliveries and the feed of events look like."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from api.schemas.jobs import check_time, shown_types, types_among
from api.schemas.shape import Shape
from domain.delivery import TryError
from domain.event_types import SELECTABLE_EVENTS, EventType
from domain.outbound import MAX_URL_CHARS

MAX_DESCRIPTION_CHARS = 500


class DeliveryState(StrEnum):
    """How a delivery stands; `pending` waits for its first try or its next."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


_Events = Annotated[list[str], Field(min_length=1), types_among(SELECTABLE_EVENTS)]
_SHOWN_EVENTS: dict[str, Any] = {"anyOf": [shown_types(SELECTABLE_EVENTS), {"type": "null"}]}
_Time = Annotated[str, AfterValidator(check_time), Field(json_schema_extra={"format": "date-time"})]
_URL = "Gets the events by POST; `https://`, port 443 or 8443, at a public address."
_ERRORS = ", ".join(f"`{code}`" for code in (*TryError, "sender_lost"))
_EVENTS = "The types it gets; null for every one but `job.started`."


class EndpointRequest(Shape):
    """An endpoint to register."""

    url: str = Field(min_length=1, max_length=MAX_URL_CHARS, description=_URL)
    events: _Events | None = Field(default=None, description=_EVENTS, json_schema_extra=_SHOWN_EVENTS)
    description: str = Field(default="", max_length=MAX_DESCRIPTION_CHARS, description="For yourself.")
    enabled: bool = Field(default=True, description="Whether anything is sent to it.")


class EndpointChanges(Shape):
    """What to change; the rest stays."""

    # Factories, since a default would read as what a field becomes when it is left out.
    url: str = Field(default_factory=str, min_length=1, max_length=MAX_URL_CHARS, description=_URL)
    events: _Events | None = Field(default_factory=lambda: None, description=_EVENTS, json_schema_extra=_SHOWN_EVENTS)
    description: str = Field(default_factory=str, max_length=MAX_DESCRIPTION_CHARS, description="For yourself.")
    enabled: bool = Field(default_factory=bool, description="Enabling forgets past failures; disabling gives up what waits to be sent.")


class RedeliverRequest(Shape):
    """Which deliveries to send again."""

    endpoint_id: str | None = Field(default=None, description="Those of one endpoint.")
    state: Literal["delivered", "failed"] = Field(default="failed", description="Those that ended so.")
    created_after: _Time = Field(description="Those made at this moment or later.")
    created_before: _Time | None = Field(default=None, description="Those made earlier than this; than now if left out.")


class EndpointUrls(BaseModel):
    """Where to go next."""

    self: str
    rotate_secret: str
    test: str
    deliveries: str


class Endpoint(BaseModel):
    """An address of yours that wants to be told of events."""

    id: str
    object: Literal["webhook_endpoint"]
    url: str
    events: list[EventType] | None = Field(description=_EVENTS)
    description: str
    enabled: bool
    disabled_reason: Literal["requested", "gone", "failing"] | None = Field(
        description="`requested`: by you; `gone`: it answered 410; `failing`: nothing but failures for 120 hours."
    )
    standing: Literal["new", "good", "failing"] = Field(
        description="`new` until the first success, `failing` after three failures in a row; a good one is sent more at once."
    )
    failures: int = Field(description="Failed tries in a row.")
    failing_since: datetime | None = Field(description="Nothing but failures since then.")
    created_at: datetime
    updated_at: datetime
    urls: EndpointUrls


class NewEndpoint(Endpoint):
    """An endpoint with its secret, which is shown this once."""

    secret: str = Field(description="Signs what is sent to it; `whsec_` and base64, as Standard Webhooks libraries take it.")


class EndpointList(BaseModel):
    """A page of endpoints, the oldest first."""

    data: list[Endpoint]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class NewSecret(BaseModel):
    """A new secret, which is shown this once."""

    object: Literal["webhook_secret"]
    endpoint_id: str | None = Field(description="Null for the default secret, which signs the webhooks of single jobs.")
    secret: str = Field(description="Take it up within 24 hours; until then the one before it signs too.")
    previous_expires_at: datetime | None = Field(description="Until then both sign; null if there was none before.")


class DeliveryUrls(BaseModel):
    """Where to go next."""

    self: str
    redeliver: str
    job: str | None


class Delivery(BaseModel):
    """One event on its way to one endpoint."""

    id: str
    object: Literal["webhook_delivery"]
    event_id: str = Field(description="Sent as `webhook-id`, the same on every try.")
    type: EventType
    endpoint_id: str = Field(description="A registered endpoint's; webhooks of single jobs have one for each scheme, host and port, which is not registered.")
    job_id: str | None
    url: str
    state: DeliveryState
    tries: int
    status_code: int | None = Field(description="Of the last answer.")
    error: str | None = Field(description="Of the last try, or `endpoint_disabled` or `endpoint_deleted`; null after a success.")
    created_at: datetime
    next_try_at: datetime | None
    last_try_at: datetime | None
    finished_at: datetime | None
    urls: DeliveryUrls


class DeliveryTry(BaseModel):
    """One request of a delivery."""

    number: int
    started_at: datetime
    duration_ms: float
    status_code: int | None
    error: str | None = Field(description=f"Null after a success; else one of {_ERRORS}.")
    detail: str | None
    answer: str | None = Field(description="The first KiB of what your server answered, as far as it can be shown.")


class DeliveryWithTries(Delivery):
    """A delivery and all its tries."""

    history: list[DeliveryTry] = Field(description="The first try first.")


class DeliveryList(BaseModel):
    """A page of deliveries, the newest first."""

    data: list[Delivery]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class Redelivered(BaseModel):
    """What was sent again."""

    object: Literal["webhook_redelivery"]
    count: int
    more: bool = Field(description="Whether there may be more than one call sends; ask again.")


class Event(BaseModel):
    """Something that happened: what a webhook's body says, and the id it is sent under."""

    id: str = Field(description="The `webhook-id`.")
    type: EventType
    timestamp: datetime
    data: Any = Field(description="The job, without its input; of other types what they speak of.")


class EventPage(BaseModel):
    """Events in their order."""

    data: list[Event]
    next_cursor: str | None = Field(description="Give it as `after`, now or later; null only while there is no event at all.")
