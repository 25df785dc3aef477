"""Webhook endpoints over HTTP: register, look, change, delete, rotate, try out; and what is refused."""

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from domain.ids import Prefix, decode, encode
from models.queries.secrets import secrets_of
from models.transactions import make_engine, statement
from tests.support.api import SEALER, Api, Reply, api_on, make_api
from tests.support.jobs import run_sql
from tests.support.rigs import Rig, rig_of

PATH = "/v1/webhook-endpoints"
URL = "https://hooks.example.com/in"
UNKNOWN = encode(Prefix.ENDPOINT, UUID(int=1 << 100))


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url) as api:
        yield api


@pytest.fixture(scope="module")
def still_api(request: pytest.FixtureRequest, rigs: Callable[[str], Rig]) -> Iterator[Api]:
    """One for all tests that change nothing."""
    with rigs(rig_of(request.node)).database() as url, api_on(url) as api:
        yield api


def register(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post(PATH, {"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    endpoint: dict[str, Any] = answer.json
    return endpoint


def path(endpoint: dict[str, Any], suffix: str = "") -> str:
    return f"{PATH}/{endpoint['id']}{suffix}"


def stored_secrets(api: Api, endpoint: dict[str, Any] | None) -> list[str]:
    """The secrets that sign, as the sender opens them."""
    wanted = None if endpoint is None else decode(Prefix.ENDPOINT, endpoint["id"])
    with statement(api.engine) as connection:
        return [SEALER.unseal(secret.sealed) for secret in secrets_of(connection, tenant_id=api.principal.tenant_id, endpoint_id=wanted)]


def assert_refused(answer: Reply, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    if pointer is not None:
        assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == [(pointer, code)]


# --- the life of an endpoint ------------------------------------------------------------------------------------------


def test_register_answers_the_endpoint_and_its_secret_once(api: Api) -> None:
    answer = api.post(PATH, {"url": URL, "events": ["job.failed"], "description": "orders"})
    endpoint = answer.json
    secret = endpoint.pop("secret")
    assert answer.status_code == 201
    assert answer.headers["Location"] == endpoint["urls"]["self"] == f"http://localhost{path(endpoint)}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (endpoint["url"], endpoint["events"], endpoint["description"], endpoint["enabled"]) == (URL, ["job.failed"], "orders", True)
    assert (endpoint["standing"], endpoint["failures"], endpoint["failing_since"], endpoint["disabled_reason"]) == ("new", 0, None, None)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert stored_secrets(api, endpoint) == [secret]
    for shown in (api.get(path(endpoint)), api.get(PATH), api.patch(path(endpoint), {"description": "x"})):
        assert "whsec_" not in shown.text
        assert secret not in shown.text


def test_register_stores_the_secret_sealed_alone(api: Api) -> None:
    secret = register(api)["secret"]
    (row,) = run_sql(api.engine, "SELECT sealed, CAST(webhook_secrets AS text) AS whole FROM webhook_secrets")
    assert base64.b64decode(secret.removeprefix("whsec_")) not in bytes(row.sealed)
    assert "whsec_" not in row.whole
    assert secret not in row.whole


def test_register_takes_a_url_in_one_form(api: Api) -> None:
    assert register(api, url="HTTPS://Hooks.Example.COM:443/In?a=b#part")["url"] == "https://hooks.example.com/In?a=b"


def test_list_is_in_pages_the_oldest_first(api: Api) -> None:
    made = [register(api, description=str(number))["id"] for number in range(3)]
    first = api.get(f"{PATH}?limit=2")
    assert [endpoint["id"] for endpoint in first.json["data"]] == made[:2]
    following = first.headers["Link"].partition("<")[2].partition(">")[0].removeprefix("http://localhost")
    second = api.get(following)
    assert [endpoint["id"] for endpoint in second.json["data"]] == made[2:]
    assert (second.json["next_cursor"], second.headers.get("Link")) == (None, None)


def test_patch_changes_what_it_names_and_no_more(api: Api) -> None:
    endpoint = register(api, events=["job.failed"], description="before")
    changed = api.patch(path(endpoint), {"description": "after", "events": None}).json
    assert (changed["description"], changed["events"], changed["url"], changed["enabled"]) == ("after", None, URL, True)
    assert api.patch(path(endpoint), {}).json["description"] == "after"
    moved = api.patch(path(endpoint), {"url": "https://other.example.com/"}).json
    assert (moved["url"], moved["description"]) == ("https://other.example.com/", "after")


def test_patch_disables_and_enables(api: Api) -> None:
    endpoint = register(api)
    disabled = api.patch(path(endpoint), {"enabled": False}).json
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "requested")
    assert_refused(api.post(path(endpoint, "/test")), 409, "endpoint_disabled")
    enabled = api.patch(path(endpoint), {"enabled": True}).json
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    assert api.post(path(endpoint, "/test")).status_code == 202


def test_delete_leaves_neither_endpoint_nor_secret(api: Api) -> None:
    endpoint = register(api)
    answer = api.delete(path(endpoint))
    assert (answer.status_code, answer.data) == (204, b"")
    assert_refused(api.get(path(endpoint)), 404, "not_found")
    assert_refused(api.delete(path(endpoint)), 404, "not_found")
    assert run_sql(api.engine, "SELECT * FROM webhook_secrets") == []


def test_rotate_secret_leaves_both_valid_for_a_day(api: Api) -> None:
    endpoint = register(api)
    answer = api.post(path(endpoint, "/rotate-secret"))
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (answer.json["object"], answer.json["endpoint_id"]) == ("webhook_secret", endpoint["id"])
    assert stored_secrets(api, endpoint) == [answer.json["secret"], endpoint["secret"]]
    (now,) = run_sql(api.engine, "SELECT now() AS moment")
    assert abs(datetime.fromisoformat(answer.json["previous_expires_at"]) - now.moment - timedelta(hours=24)) < timedelta(minutes=1)


def test_rotate_default_secret_makes_the_first_one_and_then_another(api: Api) -> None:
    first = api.post(f"{PATH}/default/rotate-secret").json
    second = api.post(f"{PATH}/default/rotate-secret", {}).json
    assert (first["endpoint_id"], first["previous_expires_at"]) == (None, None)
    assert second["previous_expires_at"] is not None
    assert stored_secrets(api, None) == [second["secret"], first["secret"]]
    assert stored_secrets(api.as_tenant("other"), None) == []


def test_ping_is_written_with_its_delivery_whatever_the_filter(api: Api) -> None:
    endpoint = register(api, events=["job.failed"])
    answer = api.post(path(endpoint, "/test"))
    delivery = answer.json
    assert answer.status_code == 202
    assert (delivery["type"], delivery["endpoint_id"], delivery["state"], delivery["tries"], delivery["url"]) == ("ping", endpoint["id"], "pending", 0, URL)
    assert answer.headers["Location"] == delivery["urls"]["self"]
    assert api.get(delivery["urls"]["self"].removeprefix("http://localhost")).json == {**delivery, "history": []}
    assert run_sql(api.engine, "SELECT type FROM events WHERE id = :id", id=decode(Prefix.EVENT, delivery["event_id"]))[0].type == "ping"


def test_register_past_the_most_is_refused_until_one_is_deleted(api: Api) -> None:
    first = register(api)
    run_sql(
        api.engine,
        "INSERT INTO webhook_endpoints (id, tenant_id, kind, url) SELECT gen_random_uuid(), :tenant, 'registered', 'https://x.example' "
        "FROM generate_series(1, 99)",
        tenant=api.principal.tenant_id,
    )
    assert_refused(api.post(PATH, {"url": URL}), 409, "too_many_endpoints")
    assert api.as_tenant("other").post(PATH, {"url": URL}).status_code == 201
    api.delete(path(first))
    register(api)


def test_register_many_at_once_never_exceeds_the_most(api: Api) -> None:
    run_sql(
        api.engine,
        "INSERT INTO webhook_endpoints (id, tenant_id, kind, url) SELECT gen_random_uuid(), :tenant, 'registered', 'https://x.example' "
        "FROM generate_series(1, 98)",
        tenant=api.principal.tenant_id,
    )

    def try_one(_: int) -> int:
        client = api.client.application.test_client()
        return client.post(PATH, json={"url": URL}, headers={"Authorization": f"Bearer {api.key}"}).status_code

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(try_one, range(6))) == [201, 201, 409, 409, 409, 409]


# --- who may see it ---------------------------------------------------------------------------------------------------


def test_endpoint_of_another_tenant_answers_as_an_unknown_one(api: Api) -> None:
    endpoint = register(api)
    other = api.as_tenant("other")
    calls: list[Callable[[str], Reply]] = [
        other.get,
        lambda place: other.patch(place, {"enabled": False}),
        other.delete,
        lambda place: other.post(f"{place}/test"),
        lambda place: other.post(f"{place}/rotate-secret"),
    ]
    for call in calls:
        theirs, unknown = call(path(endpoint)), call(f"{PATH}/{UNKNOWN}")
        assert_refused(theirs, 404, "not_found")
        assert theirs.json["detail"] == unknown.json["detail"]
    assert other.get(PATH).json["data"] == []
    assert stored_secrets(api, endpoint) == [endpoint["secret"]]
    assert api.get(path(endpoint)).json["enabled"] is True


@pytest.mark.parametrize("public_id", ["nonsense", "default", UNKNOWN.upper(), UNKNOWN.replace("whe", "job"), "whe_" + "z" * 26, "whe_%00"])
def test_endpoint_id_that_is_none_is_not_found(still_api: Api, public_id: str) -> None:
    assert_refused(still_api.get(f"{PATH}/{public_id}"), 404, "not_found")
    assert_refused(still_api.post(f"{PATH}/{public_id}/test"), 404, "not_found")


def test_origin_of_a_jobs_webhook_is_no_endpoint_to_be_seen(api: Api) -> None:
    job = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, "webhook": {"url": URL}})
    assert job.status_code == 202
    (row,) = run_sql(api.engine, "SELECT id, kind FROM webhook_endpoints")
    assert row.kind == "origin"
    place = f"{PATH}/{encode(Prefix.ENDPOINT, row.id)}"
    for answer in (api.get(place), api.delete(place), api.patch(place, {}), api.post(f"{place}/test"), api.post(f"{place}/rotate-secret")):
        assert_refused(answer, 404, "not_found")
    assert api.get(PATH).json["data"] == []


def test_no_key_of_the_settings_makes_endpoints_and_webhooks_of_jobs_unavailable(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=2)
    bare = make_api(engine, sealer=None)
    calls = [
        bare.get(PATH),
        bare.post(PATH, {"url": URL}),
        bare.get(f"{PATH}/{UNKNOWN}"),
        bare.patch(f"{PATH}/{UNKNOWN}", {}),
        bare.delete(f"{PATH}/{UNKNOWN}"),
        bare.post(f"{PATH}/{UNKNOWN}/test"),
        bare.post(f"{PATH}/default/rotate-secret"),
        bare.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, "webhook": {"url": URL}}),
        bare.post("/v1/batches", {"jobs": [{"task": "debug.echo", "input": {"payload": 1}, "webhook": {"url": URL}}]}),
    ]
    for answer in calls:
        assert_refused(answer, 503, "webhooks_not_configured")
    assert run_sql(engine, "SELECT * FROM jobs") == []
    assert bare.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}}).status_code == 202
    engine.dispose()


def test_secrets_are_in_no_log(api: Api) -> None:
    with capture_logs() as logs:
        endpoint = register(api)
        secrets = [endpoint["secret"], *(api.post(place).json["secret"] for place in (path(endpoint, "/rotate-secret"), f"{PATH}/default/rotate-secret"))]
        run_sql(api.engine, "ALTER TABLE webhook_secrets RENAME TO elsewhere")
        assert api.post(path(endpoint, "/rotate-secret")).status_code == 500  # the whole error is logged
    assert any(entry["log_level"] == "error" for entry in logs)
    for secret in secrets:
        assert secret not in str(logs)
    assert "whsec_" not in str(logs)


# --- what is refused --------------------------------------------------------------------------------------------------

BAD_URLS: list[tuple[str, str, str]] = [
    ("75 file", "file:///etc/passwd", "url_scheme"),
    ("75 gopher", "gopher://example.com/", "url_scheme"),
    ("75 javascript", "javascript:alert(1)", "invalid_url"),
    ("75 data", "data:text/plain,x", "invalid_url"),
    ("75 no scheme", "example.com/hook", "invalid_url"),
    ("75 scheme-relative", "//example.com/hook", "invalid_url"),
    ("76 user and password", "https://user:pass@example.com/", "invalid_url"),
    ("76 user alone", "https://user@example.com/", "invalid_url"),
    ("76 backslash", "https://example.com\\@127.0.0.1/", "invalid_url"),
    ("76 tab", "https://exam\tple.com/", "invalid_url"),
    ("76 newline", "https://example.com/\nHost: x", "invalid_url"),
    ("76 space", "https://example.com/a b", "invalid_url"),
    ("76 no host", "https:///hook", "invalid_url"),
    ("77 loopback", "https://127.0.0.1/", "url_forbidden"),
    ("77 loopback by name", "https://localhost/", "url_forbidden"),
    ("77 private", "https://10.0.0.8/", "url_forbidden"),
    ("77 metadata", "https://169.254.169.254/latest/meta-data", "url_forbidden"),
    ("77 metadata by name", "https://metadata.google.internal/", "url_forbidden"),
    ("77 zero", "https://0.0.0.0/", "url_forbidden"),
    ("77 IPv6 loopback", "https://[::1]/", "url_forbidden"),
    ("77 IPv4 in IPv6", "https://[::ffff:127.0.0.1]/", "url_forbidden"),
    ("77 NAT64", "https://[64:ff9b::7f00:1]/", "url_forbidden"),
    ("77 full-width", "https://１２７.０.０.１/", "url_forbidden"),
    ("77 decimal", "https://2130706433/", "invalid_url"),
    ("77 octal", "https://0177.0.0.1/", "invalid_url"),
    ("77 hex", "https://0x7f000001/", "invalid_url"),
    ("77 short", "https://127.1/", "invalid_url"),
    ("78 ssh", "https://example.com:22/", "url_port"),
    ("78 mail", "https://example.com:25/", "url_port"),
    ("78 redis", "https://example.com:6379/", "url_port"),
    ("78 http's", "https://example.com:80/", "url_port"),
    ("78 twice", "https://example.com:80:80/", "invalid_url"),
    ("81 http", "http://example.com/hook", "url_scheme"),
    ("20 empty", "", "too_short"),
    ("20 too long", "https://example.com/" + "x" * 2_048, "too_long"),
]


@pytest.mark.parametrize(("url", "code"), [row[1:] for row in BAD_URLS], ids=[row[0] for row in BAD_URLS])
def test_url_that_webhooks_do_not_go_to_is_refused_wherever_it_is_given(still_api: Api, url: str, code: str) -> None:
    assert_refused(still_api.post(PATH, {"url": url}), 422, code, "/url")
    assert_refused(still_api.patch(f"{PATH}/{UNKNOWN}", {"url": url}), 422, code, "/url")
    job = {"task": "debug.echo", "input": {"payload": 1}, "webhook": {"url": url}}
    assert_refused(still_api.post("/v1/jobs", job), 422, code, "/webhook/url")
    batch = still_api.post("/v1/batches", {"jobs": [{**job, "webhook": None}, job]})
    assert [(error["pointer"], error["code"]) for error in batch.json["errors"]] == [("/jobs/1/webhook/url", code)]
    assert run_sql(still_api.engine, "SELECT * FROM webhook_endpoints") == []


FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("15 unknown field", {"x": 1}, "/x", "unknown_field"),
    ("17 url", {"url": 1}, "/url", "wrong_type"),
    ("17 url null", {"url": None}, "/url", "wrong_type"),
    ("17 enabled", {"enabled": 1}, "/enabled", "wrong_type"),
    ("17 enabled null", {"enabled": None}, "/enabled", "wrong_type"),
    ("17 description", {"description": None}, "/description", "wrong_type"),
    ("17 events", {"events": "job.failed"}, "/events", "wrong_type"),
    ("17 one event", {"events": [1]}, "/events/0", "wrong_type"),
    ("20 description", {"description": "x" * 501}, "/description", "too_long"),
    ("28 secret", {"secret": "whsec_" + "A" * 43 + "="}, "/secret", "unknown_field"),
    ("28 tenant_id", {"tenant_id": "ten_1"}, "/tenant_id", "unknown_field"),
    ("28 standing", {"standing": "good"}, "/standing", "unknown_field"),
    ("83 headers", {"headers": {"Host": "x"}}, "/headers", "unknown_field"),
    ("84 no events", {"events": []}, "/events", "too_few"),
    ("84 unknown event", {"events": ["job.exploded"]}, "/events", "invalid_value"),
    ("84 ping", {"events": ["ping"]}, "/events", "invalid_value"),
    ("84 event twice", {"events": ["job.failed", "job.failed"]}, "/events", "invalid_value"),
]


@pytest.mark.parametrize(("fields", "pointer", "code"), [row[1:] for row in FIELDS], ids=[row[0] for row in FIELDS])
def test_endpoint_field_that_is_wrong_is_named(still_api: Api, fields: dict[str, Any], pointer: str, code: str) -> None:
    assert_refused(still_api.post(PATH, {"url": URL, **fields}), 422, code, pointer)
    assert_refused(still_api.patch(f"{PATH}/{UNKNOWN}", fields), 422, code, pointer)


def test_register_without_a_url_says_so(still_api: Api) -> None:
    assert_refused(still_api.post(PATH, {}), 422, "required", "/url")


def test_actions_take_no_fields(still_api: Api) -> None:
    assert_refused(still_api.post(f"{PATH}/default/rotate-secret", {"secret": "mine"}), 422, "unknown_field", "/secret")
    assert_refused(still_api.post(f"{PATH}/{UNKNOWN}/test", {"x": 1}), 422, "unknown_field", "/x")
    assert_refused(still_api.get(f"{PATH}?events=x"), 422, "invalid_filter")


def test_private_addresses_are_taken_where_the_settings_allow_them(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=2)
    lenient = make_api(engine, allow_private=True)
    assert register(lenient, url="http://127.0.0.1:3000/hook")["url"] == "http://127.0.0.1:3000/hook"
    assert_refused(lenient.post(PATH, {"url": "http://169.254.169.254/"}), 422, "url_forbidden", "/url")
    engine.dispose()
