"""Sessions of sending, for tests: with secrets, with short limits, and without Celery."""

import threading
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Engine

from domain.delivery import LIMITS, Limits, Standing
from models.identity import new_id
from models.queries.secrets import add_secret
from models.sealing import Sealer, make_sealing_key, new_secret
from models.transactions import unit_of_work
from tests.support.jobs import TENANT
from workers.outbound.client import Bounds, OutboundClient
from workers.outbound.resolver import Resolver
from workers.webhooks.session import Sending, Sent, Session

BASE_URL = "http://millpond.example"
SEALING_KEY = make_sealing_key()


def give_secret(engine: Engine, endpoint_id: UUID | None, *, sealer: Sealer | None = None, overlap_s: float = 86_400.0) -> str:
    """A new newest secret of an endpoint, or of the tenant."""
    secret = new_secret()
    sealed = (sealer or Sealer([SEALING_KEY])).seal(secret)
    with unit_of_work(engine) as connection:
        add_secret(
            connection, secret_id=new_id(), tenant_id=TENANT, endpoint_id=endpoint_id, sealed=sealed.sealed, sealing_key=sealed.key_id, overlap_s=overlap_s
        )
    return secret


def make_sending(
    engine: Engine,
    *,
    bounds: Bounds | None = None,
    sealer: Sealer | None = None,
    limits: Limits | None = None,
    lease_s: float = 45.0,
    turn_s: float = 2.0,
) -> Sending:
    """What sessions share; receivers on this machine are allowed, and cut after a second."""
    client = OutboundClient(Resolver(threads=4), allow_private=True, bounds=bounds or Bounds(connect_s=0.5, total_s=1.0))
    return Sending(
        engine,
        dict.fromkeys(Standing, client),
        sealer or Sealer([SEALING_KEY]),
        BASE_URL,
        threading.Event(),
        lease_s=lease_s,
        turn_s=turn_s,
        limits=dict.fromkeys(Standing, limits) if limits else LIMITS,
        dice=lambda: 0.5,
    )


def serve(sending: Sending, endpoint_id: UUID, *, owner: str = "s:1", lane: Standing = Standing.NEW, others_wait: Callable[[], bool] = lambda: True) -> Sent:
    """One session."""
    return Session(sending, endpoint_id=endpoint_id, lane=lane, owner=owner, others_wait=others_wait).run()
