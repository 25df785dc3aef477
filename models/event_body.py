"""The body of a public event: rendered once, stored, and signed as it is stored."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from models.queries.batches import BatchView
from models.queries.endpoints import EndpointView
from models.queries.event_feed import FeedEvent
from models.queries.read import JobView


def event_body(event: FeedEvent, *, base_url: str, job: JobView | None = None, batch: BatchView | None = None, endpoint: EndpointView | None = None) -> bytes:
    """The bytes of ``{"type", "timestamp", "data"}``."""
    raise NotImplementedError


def render_bodies(session: Session, *, events: Sequence[FeedEvent], base_url: str) -> dict[UUID, bytes]:
    """Bodies for the feed: those that are stored as they are, the others rendered; stores nothing."""
    raise NotImplementedError


def ensure_bodies(session: Session, *, event_ids: Sequence[UUID], base_url: str) -> dict[UUID, bytes]:
    """Bodies for the sender: renders and stores what is not stored yet; call it in a unit of work."""
    raise NotImplementedError
