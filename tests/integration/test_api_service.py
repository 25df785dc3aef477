from collections.abc import Iterator

import pytest

from tests.support.api import Api, api_on
from tests.support.jobs import run_sql

AWAY = "postgresql://someone:hunter2@127.0.0.1:1/secret_name"


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url, with_redis=True) as api:
        yield api


def test_healthz_asks_nobody(api: Api) -> None:
    api.engine.dispose()
    answer = api.open("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_readyz_everything_there_is_ready(api: Api) -> None:
    answer = api.open("/readyz")
    assert (answer.status_code, answer.json) == (
        200,
        {"status": "ready", "checks": {"database": "ok", "migrations": "ok", "broker": "ok", "redis": "ok"}},
    )


def test_readyz_broker_or_redis_away_is_degraded_and_still_ready(api: Api) -> None:
    api.flags.broker_is_away = True
    api.flags.redis_answers = False
    answer = api.open("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert answer.json["checks"]["broker"].startswith("away")
    assert answer.json["checks"]["redis"].startswith("away")


def test_readyz_database_behind_is_unavailable_and_says_what_to_run(api: Api) -> None:
    run_sql(api.engine, "UPDATE alembic_version SET version_num = '0001'")
    answer = api.open("/readyz")
    assert (answer.status_code, answer.json["status"]) == (503, "unavailable")
    assert "millpond migrate" in answer.json["checks"]["migrations"]


def test_readyz_database_ahead_of_this_code_is_ready(api: Api) -> None:
    run_sql(api.engine, "UPDATE alembic_version SET version_num = '9999'")
    assert api.open("/readyz").json["status"] == "ready"


def test_readyz_empty_database_is_unavailable(empty_database_url: str) -> None:
    with api_on(empty_database_url, with_key=False) as api:
        answer = api.open("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"] == {"database": "ok", "migrations": "none applied: run `millpond migrate`", "broker": "ok"}


def test_readyz_database_away_is_unavailable_and_names_no_host() -> None:
    with api_on(AWAY, with_key=False) as api:
        answer = api.open("/readyz")
        assert api.open("/healthz").status_code == 200
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "away")
    for secret in ("someone", "hunter2", "127.0.0.1", "secret_name"):
        assert secret not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs"])
def test_service_routes_need_no_key_and_tell_no_secret(api: Api, path: str) -> None:
    answer = api.open(path)
    assert answer.status_code == 200
    assert answer.headers["X-Request-Id"]
    for secret in (api.engine.url.database or "", "postgresql", api.key):
        assert secret not in answer.text


def test_docs_loads_nothing_from_anywhere(api: Api) -> None:
    answer = api.open("/docs")
    assert answer.content_type == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for mark in ("<script", "src=", "@import", "url(", 'href="http'):
        assert mark not in answer.text
    for wanted in (
        "/v1/jobs/{job_id}",
        "text.embedding",
        "curl $MILLPOND/v1/jobs",
        "curl -X DELETE $MILLPOND/v1/webhook-endpoints/$ENDPOINT",
        "curl -X PATCH $MILLPOND/",
        'id="error-not_found"',
        'id="schema-Problem"',
    ):
        assert wanted in answer.text
