from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from models.identity import new_id
from models.queries.endpoints import (
    change_endpoint,
    count_endpoints,
    delete_endpoint,
    ensure_origin,
    get_endpoint,
    list_endpoints,
    origin_id,
)
from models.queries.secrets import add_secret
from models.transactions import statement, unit_of_work
from tests.support.deliveries import URL, deliveries, end_jobs, endpoint, fail_once, take
from tests.support.jobs import TENANT, run_sql

STRANGER = new_id()


def test_endpoint_created_is_read_back_as_it_was_given(engine: Engine) -> None:
    one = endpoint(engine, events=("job.failed", "batch.completed"))
    with statement(engine) as connection:
        found = get_endpoint(connection, tenant_id=TENANT, endpoint_id=one)
    assert found is not None
    assert (found.url, found.events, found.enabled, found.disabled_reason, found.standing, found.kind) == (
        URL,
        ("job.failed", "batch.completed"),
        True,
        None,
        "new",
        "registered",
    )


def test_endpoint_of_another_tenant_is_nobodys(engine: Engine) -> None:
    one = endpoint(engine)
    with unit_of_work(engine) as connection:
        assert get_endpoint(connection, tenant_id=STRANGER, endpoint_id=one) is None
        assert change_endpoint(connection, tenant_id=STRANGER, endpoint_id=one, changes={"enabled": False}) is None
        assert not delete_endpoint(connection, tenant_id=STRANGER, endpoint_id=one)
        assert list_endpoints(connection, tenant_id=STRANGER, limit=10) == []
        assert count_endpoints(connection, tenant_id=STRANGER) == 0
        assert count_endpoints(connection, tenant_id=TENANT) == 1


def test_endpoints_are_listed_page_by_page_without_origins(engine: Engine) -> None:
    ids = [endpoint(engine) for _ in range(5)]
    with statement(engine) as connection:
        ensure_origin(connection, tenant_id=TENANT, url="https://example.com:443")
        first = list_endpoints(connection, tenant_id=TENANT, limit=3)
        rest = list_endpoints(connection, tenant_id=TENANT, after=first[-1].id, limit=3)
    assert [one.id for one in (*first, *rest)] == ids


def test_change_leaves_alone_what_it_does_not_name(engine: Engine) -> None:
    one = endpoint(engine, events=("job.failed",))
    with unit_of_work(engine) as connection:
        changed = change_endpoint(connection, tenant_id=TENANT, endpoint_id=one, changes={"description": "new"})
    assert changed is not None
    assert (changed.description, changed.events, changed.url, changed.enabled) == ("new", ("job.failed",), URL, True)
    with unit_of_work(engine) as connection:
        changed = change_endpoint(connection, tenant_id=TENANT, endpoint_id=one, changes={"events": None})
    assert changed is not None
    assert changed.events is None


def test_change_disabled_fails_what_is_pending_and_enabled_begins_anew(engine: Engine) -> None:
    one = endpoint(engine)
    end_jobs(engine, 2)
    fail_once(engine, one)
    with unit_of_work(engine) as connection:
        off = change_endpoint(connection, tenant_id=TENANT, endpoint_id=one, changes={"enabled": False})
    assert off is not None
    assert (off.enabled, off.disabled_reason, off.failures) == (False, "requested", 1)
    assert {(row.state, row.error) for row in deliveries(engine)} == {("failed", "endpoint_disabled")}
    end_jobs(engine, 1)
    assert len(deliveries(engine)) == 2  # it is told nothing while it is off
    with unit_of_work(engine) as connection:
        on = change_endpoint(connection, tenant_id=TENANT, endpoint_id=one, changes={"enabled": True})
    assert on is not None
    assert (on.enabled, on.disabled_reason, on.failures, on.failing_since, on.standing) == (True, None, 0, None, "new")


def test_change_of_url_is_where_the_next_try_goes_and_forgets_failures(engine: Engine) -> None:
    one = endpoint(engine)
    end_jobs(engine, 1)
    fail_once(engine, one)
    with unit_of_work(engine) as connection:
        changed = change_endpoint(connection, tenant_id=TENANT, endpoint_id=one, changes={"url": "https://other.example.com/"})
    assert changed is not None
    assert (changed.failures, changed.failing_since) == (0, None)
    assert [delivery.url for delivery in take(engine, one).deliveries] == ["https://other.example.com/"]


def test_delete_takes_secrets_and_fails_what_is_pending(engine: Engine) -> None:
    one, other = endpoint(engine), endpoint(engine)
    end_jobs(engine, 3)
    with unit_of_work(engine) as connection:
        for owner in (one, other):
            add_secret(connection, secret_id=new_id(), tenant_id=TENANT, endpoint_id=owner, sealed=b"x", sealing_key="k", overlap_s=60)
        assert delete_endpoint(connection, tenant_id=TENANT, endpoint_id=one)
    assert [row.endpoint_id for row in run_sql(engine, "SELECT endpoint_id FROM webhook_secrets")] == [other]
    assert {(row.state, row.error) for row in deliveries(engine, one)} == {("failed", "endpoint_deleted")}
    assert {row.state for row in deliveries(engine, other)} == {"pending"}


def test_endpoint_disabled_without_a_reason_is_refused_by_the_database(engine: Engine) -> None:
    endpoint(engine)
    with pytest.raises(IntegrityError, match="webhook_endpoints_disabled"):
        run_sql(engine, "UPDATE webhook_endpoints SET enabled = false")


def test_origin_made_by_many_at_once_is_one(engine: Engine) -> None:
    def make(_: int) -> object:
        with statement(engine) as connection:
            return ensure_origin(connection, tenant_id=TENANT, url="https://example.com:443")

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(make, range(24)))
    assert ids == {origin_id(TENANT, "https://example.com:443")}
    assert len(run_sql(engine, "SELECT id FROM webhook_endpoints")) == 1
    assert origin_id(STRANGER, "https://example.com:443") not in ids
