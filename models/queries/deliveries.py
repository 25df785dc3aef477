"""Webhook deliveries: which endpoints have something due, who sends it, what came of it, and what their owner sees of them.

Locks are taken in the order endpoint, deliveries, tenant; whoever would take them in another order passes over locked rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from domain.delivery import DISABLE_AFTER_S, DUE_PER_HINT, FAILING_AFTER, Again, Delivered, Failed, Limits, Verdict


@dataclass(frozen=True, slots=True)
class Due:
    """An endpoint that a message should speak of.

    Attributes:
        standing: ``new``, ``good`` or ``failing``: which queue the message goes to.
        hints: how many messages; more than one where much is due.
    """

    endpoint_id: UUID
    tenant_id: UUID
    standing: str
    hints: int


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that one session owns, as long as its fence is the newest.

    Attributes:
        endpoint_kind: ``registered`` or ``origin``; the latter's secret is the tenant's default one.
        tries: how many there were before.
        schedule_step: where in the schedule it is; 0 before its first try.
        body: the bytes to sign and send; None until they are rendered.
    """

    id: UUID
    event_id: UUID
    tenant_id: UUID
    endpoint_id: UUID
    endpoint_kind: str
    job_id: UUID | None
    type: str
    url: str
    fence: int
    tries: int
    schedule_step: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a session got.

    Attributes:
        refused: whether others send as much as may be sent at once; nothing was looked at then.
    """

    deliveries: list[ClaimedDelivery]
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """One POST and what came of it.

    Attributes:
        fence: as it was claimed; a newer one in the database refuses this record.
        status_code: of the answer, if there was one.
        error: a code; None after a success.
        detail: what a person should know of the error.
        answer: the first KiB of the answer's body, printable.
        disables: why this try disables its endpoint, if it does (``gone``).
    """

    delivery_id: UUID
    fence: int
    started_at: datetime
    duration_ms: float
    status_code: int | None
    error: str | None
    detail: str | None
    answer: str | None
    verdict: Verdict
    disables: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as its owner may see it.

    Attributes:
        state: ``pending``, ``sending``, ``delivered`` or ``failed``.
        available_at: the next try is not before then, while it is pending.
        status_code: of the last answer.
        error: of the last try; None after a success.
    """

    id: UUID
    tenant_id: UUID
    event_id: UUID
    endpoint_id: UUID
    job_id: UUID | None
    type: str
    url: str
    state: str
    tries: int
    status_code: int | None
    error: str | None
    created_at: datetime
    available_at: datetime
    last_try_at: datetime | None
    finished_at: datetime | None

    @property
    def next_try_at(self) -> datetime | None:
        """When it is tried next; None while it is sent and when it is over."""
        return self.available_at if self.state == "pending" else None


@dataclass(frozen=True, slots=True)
class TryView:
    """One try; numbers count from 1."""

    number: int
    started_at: datetime
    duration_ms: float
    status_code: int | None
    error: str | None
    detail: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class DeliveryFilters:
    """What a list is narrowed to; what is None does not narrow.

    Attributes:
        created_after: this moment or later.
        created_before: earlier than this moment.
    """

    endpoint_id: UUID | None = None
    event_id: UUID | None = None
    job_id: UUID | None = None
    state: str | None = None
    type: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class WebhookState:
    """How the webhook that a job asked for stands, by its newest delivery.

    Attributes:
        state: a delivery's; ``waiting`` while the job is live and nothing it asked for has happened, ``unwanted`` when it ended in a way it did not ask for.
    """

    state: str
    tries: int
    next_try_at: datetime | None


def take_hints(session: Session, *, limit: int, again_after_s: float = 10.0) -> list[Due]:
    raise NotImplementedError


def unhint(session: Session, *, endpoint_ids: Sequence[UUID]) -> None:
    raise NotImplementedError


def claim_deliveries(session: Session, *, endpoint_id: UUID, owner: str, lease_s: float, limits: Limits) -> Claim:
    raise NotImplementedError


def renew_deliveries(session: Session, *, owner: str, lease_s: float) -> set[UUID]:
    raise NotImplementedError


def record_tries(session: Session, *, owner: str, tries: Sequence[Try]) -> set[UUID]:
    raise NotImplementedError


def give_back(session: Session, *, deliveries: Sequence[ClaimedDelivery]) -> None:
    raise NotImplementedError


def reap_deliveries(session: Session, *, grace_s: float, limit: int) -> int:
    raise NotImplementedError


def redeliver(session: Session, *, tenant_id: UUID, delivery_id: UUID) -> DeliveryView | None:
    raise NotImplementedError


def redeliver_range(
    session: Session,
    *,
    tenant_id: UUID,
    endpoint_id: UUID | None = None,
    state: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    limit: int,
) -> int:
    raise NotImplementedError


def get_delivery(session: Session, *, tenant_id: UUID, delivery_id: UUID) -> DeliveryView | None:
    raise NotImplementedError


def list_deliveries(session: Session, *, tenant_id: UUID, filters: DeliveryFilters, after: UUID | None = None, limit: int) -> list[DeliveryView]:
    raise NotImplementedError


def tries_of(session: Session, *, delivery_id: UUID) -> list[TryView]:
    raise NotImplementedError


def delivery_state_of_jobs(session: Session, *, job_ids: Sequence[UUID]) -> Mapping[UUID, WebhookState]:
    raise NotImplementedError
