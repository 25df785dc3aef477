"""Public events: the ordered feed that tenants pull, the stored bodies, and the events that no job's transition makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """A public event.

    Attributes:
        endpoint_id: whom ``endpoint.disabled`` and ``ping`` speak of.
        body: the bytes that are signed; None until they are stored.
    """

    id: UUID
    tenant_id: UUID
    type: str
    created_at: datetime
    job_id: UUID | None
    batch_id: UUID | None
    endpoint_id: UUID | None
    body: bytes | None


def read_feed(session: Session, *, tenant_id: UUID, after: UUID | None = None, limit: int) -> list[FeedEvent] | None:
    raise NotImplementedError


def get_events(session: Session, *, ids: Sequence[UUID]) -> list[FeedEvent]:
    raise NotImplementedError


def store_bodies(session: Session, *, bodies: Mapping[UUID, bytes]) -> dict[UUID, bytes]:
    raise NotImplementedError


def add_ping(session: Session, *, tenant_id: UUID, endpoint_id: UUID) -> UUID | None:
    raise NotImplementedError


def complete_batches(session: Session, *, limit: int) -> int:
    raise NotImplementedError
