"""Endpoints, events and deliveries for tests of what is kept in the database."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from domain.delivery import Again, Delivered, Limits, Verdict
from models.identity import new_id
from models.queries.deliveries import Claim, ClaimedDelivery, Due, Try, claim_deliveries, record_tries, take_hints
from models.queries.endpoints import create_endpoint
from models.transactions import statement, unit_of_work
from tests.support.jobs import TENANT, claim, run_sql, submit_many, succeed

URL = "https://hooks.example.com/in"


def endpoint(
    engine: Engine,
    *,
    events: tuple[str, ...] | None = None,
    enabled: bool = True,
    tenant_id: UUID = TENANT,
    url: str = URL,
    standing: str = "new",
) -> UUID:
    """A registered endpoint."""
    endpoint_id = new_id()
    with statement(engine) as connection:
        create_endpoint(connection, endpoint_id=endpoint_id, tenant_id=tenant_id, url=url, description="", events=events, enabled=enabled)
    if standing != "new":
        run_sql(engine, "UPDATE webhook_endpoints SET standing = :standing WHERE id = :id", standing=standing, id=endpoint_id)
    return endpoint_id


def end_jobs(engine: Engine, count: int, **fields: Any) -> list[UUID]:
    """Jobs that succeeded, each with an event and its deliveries."""
    ids = submit_many(engine, count, **fields)
    succeed(engine, claim(engine, *ids))
    return ids


def deliveries(engine: Engine, endpoint_id: UUID | None = None) -> list[Any]:
    """The rows of an endpoint's deliveries, or of all, in the order of their ids."""
    return run_sql(
        engine,
        "SELECT * FROM webhook_deliveries WHERE CAST(:endpoint_id AS uuid) IS NULL OR endpoint_id = :endpoint_id ORDER BY id",
        endpoint_id=endpoint_id,
    )


def take(engine: Engine, endpoint_id: UUID, *, owner: str = "s:1", limits: Limits | None = None, lease_s: float = 45.0) -> Claim:
    """Claims as a session does."""
    with unit_of_work(engine) as connection:
        return claim_deliveries(connection, endpoint_id=endpoint_id, owner=owner, lease_s=lease_s, limits=limits or Limits())


def hints(engine: Engine, *, again_after_s: float = 10.0, limit: int = 100) -> list[Due]:
    """What the relay finds."""
    with statement(engine) as connection:
        return take_hints(connection, limit=limit, again_after_s=again_after_s)


def tried(delivery: ClaimedDelivery, verdict: Verdict | None = None, **fields: Any) -> Try:
    """A try of a claimed delivery: a success unless told otherwise."""
    verdict = verdict or Delivered()
    good = isinstance(verdict, Delivered)
    values: dict[str, Any] = {
        "delivery_id": delivery.id,
        "fence": delivery.fence,
        "started_at": datetime.now(UTC),
        "duration_ms": 12.5,
        "status_code": 200 if good else 500,
        "error": None if good else "http_status",
        "detail": None,
        "answer": "ok" if good else "no",
        "verdict": verdict,
    }
    return Try(**{**values, **fields})


def record(engine: Engine, *tries: Try, owner: str = "s:1") -> set[UUID]:
    """Records as a session does."""
    with unit_of_work(engine) as connection:
        return record_tries(connection, owner=owner, tries=tries)


def fail_once(engine: Engine, endpoint_id: UUID, *, delay_s: float = 0.0, owner: str = "s:1", **fields: Any) -> UUID:
    """Claims one delivery and records a failure that is tried again; its id."""
    (delivery,) = take(engine, endpoint_id, owner=owner, limits=Limits(many=1)).deliveries
    assert record(engine, tried(delivery, Again(delay_s), **fields), owner=owner) == {delivery.id}
    return delivery.id
