"""The bad-input matrix, row by row, as far as it concerns jobs: status, code and pointer of every refusal."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from models.transactions import make_engine
from tests.support.api import Api, Reply, make_api
from tests.support.jobs import run_sql
from tests.support.rigs import Rig, rig_of

ECHO = {"task": "debug.echo", "input": {"payload": 1}}
EMBED = {"task": "text.embedding", "input": {"texts": ["a"]}}
BODY = json.dumps(ECHO).encode()


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, rigs: Callable[[str], Rig]) -> Iterator[Api]:
    with rigs(rig_of(request.node)).database() as url:
        engine = make_engine(url, pool_size=4)
        yield make_api(engine)
        engine.dispose()


def assert_problem(answer: Reply, status: int, code: str, pointer: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body: dict[str, Any] = answer.json
    assert {"type", "title", "status", "detail", "instance", "code", "retryable", "request_id"} <= set(body)
    assert body["status"] == status
    assert body["code"] == code, body
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert body["type"].endswith(code)
    if pointer is not None:
        assert [error["pointer"] for error in body["errors"]] == [pointer]
        assert [error["code"] for error in body["errors"]] == [code]
    assert "Traceback" not in answer.text
    return body


RAW_BODIES: list[tuple[str, bytes, int, str]] = [
    ("1 empty", b"", 400, "invalid_json"),
    ("2 cut off", b"{", 400, "invalid_json"),
    ("2 trailing comma", b'{"task":"debug.echo","input":{},}', 400, "invalid_json"),
    ("2 single quotes", b"{'task':'debug.echo'}", 400, "invalid_json"),
    ("2 trailing garbage", BODY + b"x", 400, "invalid_json"),
    ("3 not UTF-8", b'{"task":"\xff"}', 400, "invalid_json"),
    ("4 UTF-16", BODY.decode().encode("utf-16"), 415, "unsupported_media_type"),
    ("5 byte order mark", b"\xef\xbb\xbf" + BODY, 400, "invalid_json"),
    ("6 deep arrays", b'{"task":"debug.echo","input":{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", 400, "json_too_deep"),
    ("6 deep objects", b'{"a":' * 3_000 + b"1" + b"}" * 3_000, 400, "json_too_deep"),
    ("7 NaN", b'{"task":"debug.echo","input":{"payload":NaN}}', 400, "invalid_number"),
    ("7 Infinity", b'{"task":"debug.echo","input":{"payload":-Infinity}}', 400, "invalid_number"),
    ("7 1e400", b'{"task":"debug.echo","input":{"payload":1e400}}', 400, "invalid_number"),
    ("8 duplicate key", b'{"task":"debug.echo","task":"debug.echo","input":{"payload":1}}', 400, "invalid_json"),
    ("9 huge integer", b'{"task":"debug.echo","input":{"payload":' + b"9" * 4_000 + b"}}", 422, "out_of_range"),
    ("9 over 2^53", b'{"task":"debug.echo","input":{"payload":9007199254740993}}', 422, "out_of_range"),
    ("10 NUL", b'{"task":"debug.echo","input":{"payload":"\\u0000"}}', 422, "invalid_characters"),
    ("10 NUL in a key", b'{"task":"debug.echo","input":{"payload":{"\\u0000":1}}}', 422, "invalid_characters"),
    ("11 lone surrogate", b'{"task":"debug.echo","input":{"payload":"\\ud800"}}', 422, "invalid_characters"),
    ("12 control character", b'{"task":"debug.echo","input":{"payload":"\x01"}}', 400, "invalid_json"),
    ("14 null", b"null", 422, "not_an_object"),
    ("14 text", b'"x"', 422, "not_an_object"),
    ("14 number", b"1", 422, "not_an_object"),
    ("14 list", b"[]", 422, "not_an_object"),
    ("22 10,000 keys", json.dumps({f"k{number}": 1 for number in range(10_000)}).encode(), 422, "too_many_fields"),
    ("33 over 1 MiB", b'{"task":"debug.echo","input":{"payload":"' + b"x" * 1_048_576 + b'"}}', 413, "body_too_large"),
]


@pytest.mark.parametrize(("raw", "status", "code"), [row[1:] for row in RAW_BODIES], ids=[row[0] for row in RAW_BODIES])
def test_submit_body_that_is_no_good_json_is_refused(api: Api, raw: bytes, status: int, code: str) -> None:
    body = assert_problem(api.post("/v1/jobs", data=raw, content_type="application/json"), status, code)
    assert len(json.dumps(body)) < 1_500


FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("15 unknown field", {"x": 1}, "/x", "unknown_field"),
    ("15 unknown field, odd name", {"a/b~c": 1}, "/a~1b~0c", "unknown_field"),
    ("17 task", {"task": 1}, "/task", "wrong_type"),
    ("17 task null", {"task": None}, "/task", "wrong_type"),
    ("17 input text", {"input": "x"}, "/input", "wrong_type"),
    ("17 input list", {"input": []}, "/input", "wrong_type"),
    ("17 input null", {"input": None}, "/input", "wrong_type"),
    ("17 model", {"model": 1}, "/model", "wrong_type"),
    ("17 priority", {"priority": 1}, "/priority", "invalid_value"),
    ("17 timeout text", {"timeout_s": "5"}, "/timeout_s", "wrong_type"),
    ("17 timeout bool", {"timeout_s": True}, "/timeout_s", "wrong_type"),
    ("17 deadline list", {"deadline_s": [1]}, "/deadline_s", "wrong_type"),
    ("17 max_attempts float", {"max_attempts": 1.5}, "/max_attempts", "wrong_type"),
    ("17 max_attempts text", {"max_attempts": "1"}, "/max_attempts", "wrong_type"),
    ("17 not_before number", {"not_before": 1}, "/not_before", "wrong_type"),
    ("17 metadata list", {"metadata": []}, "/metadata", "wrong_type"),
    ("23 unknown task", {"task": "text.embeding"}, "/task", "unknown_task"),
    ("23 case variant", {"task": "Debug.Echo"}, "/task", "unknown_task"),
    ("23 empty task", {"task": ""}, "/task", "unknown_task"),
    ("24 unknown model", {"model": "nope"}, "/model", "unknown_model"),
    ("24 another task's model", {"model": "vader"}, "/model", "unknown_model"),
    ("25 timeout 0", {"timeout_s": 0}, "/timeout_s", "out_of_range"),
    ("25 timeout negative", {"timeout_s": -1}, "/timeout_s", "out_of_range"),
    ("25 timeout huge", {"timeout_s": 1e300}, "/timeout_s", "out_of_range"),
    ("25 deadline 0", {"deadline_s": 0}, "/deadline_s", "out_of_range"),
    ("25 deadline huge", {"deadline_s": 1e12}, "/deadline_s", "out_of_range"),
    ("25 max_attempts 0", {"max_attempts": 0}, "/max_attempts", "out_of_range"),
    ("25 max_attempts huge", {"max_attempts": 1_000}, "/max_attempts", "out_of_range"),
    ("25 priority", {"priority": "urgent"}, "/priority", "invalid_value"),
    ("27 no offset", {"not_before": "2030-01-01T00:00:00"}, "/not_before", "invalid_datetime"),
    ("27 bad date", {"not_before": "2030-02-30T00:00:00Z"}, "/not_before", "invalid_datetime"),
    ("27 date alone", {"not_before": "2030-01-01"}, "/not_before", "invalid_datetime"),
    ("27 year 10000", {"not_before": "10000-01-01T00:00:00Z"}, "/not_before", "invalid_datetime"),
    ("27 end of the calendar", {"not_before": "9999-12-31T23:59:59-23:59"}, "/not_before", "invalid_datetime"),
    ("27 start of the calendar", {"not_before": "0001-01-01T00:00:00+23:59"}, "/not_before", "invalid_datetime"),
    ("27 other digits", {"not_before": "２０３０-01-01T00:00:00Z"}, "/not_before", "invalid_datetime"),
    ("27 after the deadline", {"not_before": "9999-12-31T23:59:59Z"}, "/not_before", "out_of_range"),
    ("28 tenant_id", {"tenant_id": "ten_1"}, "/tenant_id", "unknown_field"),
    ("28 status", {"status": "succeeded"}, "/status", "unknown_field"),
    ("28 fence", {"fence": 9}, "/fence", "unknown_field"),
    ("28 id", {"id": "job_1"}, "/id", "unknown_field"),
    ("29 metadata nested", {"metadata": {"a": {}}}, "/metadata", "invalid_metadata"),
    ("29 metadata number", {"metadata": {"a": 1}}, "/metadata", "invalid_metadata"),
    ("29 metadata 17 pairs", {"metadata": {str(number): "" for number in range(17)}}, "/metadata", "invalid_metadata"),
    ("29 metadata over 4 KiB", {"metadata": {"a": "é" * 2_048}}, "/metadata", "invalid_metadata"),
    ("policy unknown", {"route": {"policy": "cheap"}}, "/route/policy", "unknown_policy"),
    ("policy no text", {"route": {"policy": 1}}, "/route/policy", "wrong_type"),
    ("fallbacks neither", {"route": {"fallbacks": "echo"}}, "/route/fallbacks", "wrong_type"),
    ("fallbacks of another task", {"route": {"fallbacks": ["echo", "vader"]}}, "/route/fallbacks/1", "unknown_model"),
    ("fallbacks twice", {"route": {"fallbacks": ["echo", "echo"]}}, "/route/fallbacks", "invalid_value"),
    ("fallbacks too many", {"route": {"fallbacks": [str(number) for number in range(17)]}}, "/route/fallbacks", "too_many_items"),
    ("max_cost_usd number", {"route": {"max_cost_usd": 1}}, "/route/max_cost_usd", "wrong_type"),
    ("max_cost_usd no amount", {"route": {"max_cost_usd": "1e3"}}, "/route/max_cost_usd", "invalid_value"),
    ("max_cost_usd too low", {"task": "text.sentiment", "input": {"text": "x"}, "route": {"max_cost_usd": "0"}}, "/route/max_cost_usd", "max_cost_too_low"),
    ("not built: cache", {"cache": "skip"}, "/cache", "not_available"),
    ("route is strict", {"route": {"x": 1}}, "/route/x", "unknown_field"),
    ("input unknown field", {"input": {"payload": 1, "x": 1}}, "/input/x", "unknown_field"),
    ("input missing field", {"input": {}}, "/input/payload", "required"),
    ("input wrong type", {"input": {"payload": 1, "delay_ms": "1"}}, "/input/delay_ms", "wrong_type"),
    ("input out of range", {"input": {"payload": 1, "delay_ms": -1}}, "/input/delay_ms", "out_of_range"),
]


@pytest.mark.parametrize(("fields", "pointer", "code"), [row[1:] for row in FIELDS], ids=[row[0] for row in FIELDS])
def test_submit_field_that_is_wrong_is_named(api: Api, fields: dict[str, Any], pointer: str, code: str) -> None:
    assert_problem(api.post("/v1/jobs", {**ECHO, **fields}), 422, code, pointer)


TEXTS: list[tuple[str, Any, str, str]] = [
    ("19 empty", [""], "/input/texts/0", "too_short"),
    ("19 blank", ["a", " \t\n"], "/input/texts/1", "too_short"),
    ("20 too long by one", ["a" * 100_001], "/input/texts/0", "too_long"),
    ("21 too many", ["a"] * 257, "/input/texts", "too_many_items"),
    ("21 none", [], "/input/texts", "too_few"),
    ("17 not texts", ["a", 1], "/input/texts/1", "wrong_type"),
    ("17 no list", "a", "/input/texts", "wrong_type"),
]


@pytest.mark.parametrize(("texts", "pointer", "code"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_submit_input_is_checked_by_the_tasks_contract(api: Api, texts: Any, pointer: str, code: str) -> None:
    assert_problem(api.post("/v1/jobs", {"task": "text.embedding", "input": {"texts": texts}}), 422, code, pointer)


@pytest.mark.parametrize("missing", ["task", "input"])
def test_submit_missing_field_is_required(api: Api, missing: str) -> None:
    assert_problem(api.post("/v1/jobs", {name: value for name, value in ECHO.items() if name != missing}), 422, "required", f"/{missing}")


def test_submit_several_wrong_fields_are_all_named_at_once(api: Api) -> None:
    body = assert_problem(api.post("/v1/jobs", {"task": "text.embedding", "input": {"texts": [""]}, "x": 1, "max_attempts": 0}), 422, "validation_failed")
    assert {(error["pointer"], error["code"]) for error in body["errors"]} == {
        ("/x", "unknown_field"),
        ("/max_attempts", "out_of_range"),
        ("/input/texts/0", "too_short"),
    }


def test_submit_never_echoes_more_than_a_hundred_characters(api: Api) -> None:
    secret = "s3cr3t-" * 100
    for body in ({**ECHO, "task": secret}, {**ECHO, "model": secret}, {**ECHO, secret: 1}, {**ECHO, "priority": secret}, {**ECHO, "not_before": secret}):
        answer = api.post("/v1/jobs", body)
        assert answer.status_code == 422
        assert secret[:120] not in answer.text


MEDIA: list[tuple[str, str | None, int]] = [
    ("missing", None, 415),
    ("text", "text/plain", 415),
    ("form", "application/x-www-form-urlencoded", 415),
    ("other charset", "application/json; charset=utf-16", 415),
    ("latin-1", "application/json; charset=iso-8859-1", 415),
    ("problem", "application/problem+json", 415),
    ("plain", "application/json", 202),
    ("utf-8", "application/json; charset=UTF-8", 202),
    ("odd case", "Application/JSON", 202),
]


@pytest.mark.parametrize(("content_type", "status"), [row[1:] for row in MEDIA], ids=[row[0] for row in MEDIA])
def test_submit_media_type_must_be_json_in_utf8(api: Api, content_type: str | None, status: int) -> None:
    answer = api.post("/v1/jobs", data=BODY, content_type=content_type)
    if status == 202:
        assert answer.status_code == 202
    else:
        assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "x"])
def test_submit_encoded_body_is_refused(api: Api, encoding: str) -> None:
    assert_problem(api.post("/v1/jobs", data=BODY, content_type="application/json", Content_Encoding=encoding), 415, "unsupported_encoding")


def test_submit_body_shorter_than_its_length_is_incomplete(api: Api) -> None:
    answer = api.open(
        "/v1/jobs",
        method="POST",
        data=BODY,
        content_type="application/json",
        headers={"Authorization": f"Bearer {api.key}"},
        environ_overrides={"CONTENT_LENGTH": "100"},
    )
    assert_problem(answer, 400, "incomplete_body")


IDEMPOTENCY_KEYS = ["", " ", "a" * 256, "é", "with space", '"unterminated', '""', '"tab\there"', '"' + "a" * 256 + '"']


@pytest.mark.parametrize("key", IDEMPOTENCY_KEYS)
def test_submit_idempotency_key_of_the_wrong_form_is_refused(api: Api, key: str) -> None:
    assert_problem(api.post("/v1/jobs", ECHO, Idempotency_Key=key), 400, "invalid_idempotency_key")


JOB_IDS = [
    "x",
    "job_",
    "job_" + "z" * 26,
    "JOB_01M851JGEQECBBTK3NP0XEQTV3",
    "job_01m851jgeqecbbtk3np0xeqtv3",
    "{job}",
    "a" * 5_000,
    "%00",
    "..%2f",
    "%ff",
    "job_ïïï",
]


@pytest.mark.parametrize("job_id", JOB_IDS, ids=[job_id[:20] for job_id in JOB_IDS])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/attempts"), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/rerun")])
def test_unknown_job_id_of_any_form_is_404(api: Api, method: str, suffix: str, job_id: str) -> None:
    answer = api.open(f"/v1/jobs/{job_id}{suffix}", method=method, headers={"Authorization": f"Bearer {api.key}"})
    assert_problem(answer, 404, "not_found")


@pytest.mark.parametrize("header", [None, "", "Basic eDp5", "Bearer", "Bearer short", "Bearer unknown-but-well-formed", "Bearer mp_aaaaaaaa_" + "a" * 49])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/jobs"), ("PUT", "/v1/jobs"), ("GET", "/v1/nothing"), ("GET", "//v1/jobs"), ("OPTIONS", "/v1/jobs")])
def test_without_a_good_key_nothing_is_told(api: Api, method: str, path: str, header: str | None) -> None:
    answer = api.open("/", method=method, headers={"Authorization": header} if header is not None else {}, environ_overrides={"PATH_INFO": path})
    assert_problem(answer, 401, "missing_key" if not header else "invalid_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/jobs/", "//v1/jobs", "/v1//jobs", "/v1/jobs/../jobs", "/favicon.ico", "/V1/jobs"])
def test_unknown_route_is_404(api: Api, path: str) -> None:
    assert_problem(api.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("PUT", "/v1/jobs", {"POST", "GET"}), ("DELETE", "/v1/jobs/x", {"GET"}), ("BREW", "/v1/jobs/x/cancel", {"POST"})]
)
def test_wrong_method_is_405_with_allow(api: Api, method: str, path: str, allowed: set[str]) -> None:
    answer = api.open(path, method=method, headers={"Authorization": f"Bearer {api.key}"})
    assert_problem(answer, 405, "method_not_allowed")
    assert allowed <= set(answer.headers["Allow"].split(", "))


def test_method_override_is_ignored(api: Api) -> None:
    assert_problem(
        api.open("/v1/jobs", method="PUT", headers={"Authorization": f"Bearer {api.key}", "X-HTTP-Method-Override": "POST"}), 405, "method_not_allowed"
    )


def test_headers_over_16_kib_are_431_and_almost_as_many_are_taken(api: Api) -> None:
    assert api.get("/v1/jobs", X_Long="a" * 16_000).status_code == 200
    assert_problem(api.get("/v1/jobs", X_Long="a" * 16_384), 431, "header_too_large")
    assert_problem(api.get("/v1/jobs", Content_Type="a" * 16_384), 431, "header_too_large")


def test_url_over_8_kib_is_414(api: Api) -> None:
    assert_problem(api.get("/v1/jobs/" + "a" * 9_000), 414, "uri_too_long")
    assert_problem(api.get("/v1/jobs?limit=" + "1" * 9_000), 414, "uri_too_long")


@pytest.mark.parametrize(("given", "kept"), [("abc-DEF_1.2", True), ("a" * 128, True), ("a" * 129, False), ("", False), ("a b", False), ("<script>", False)])
def test_request_id_is_the_callers_if_it_is_fit(api: Api, given: str, kept: bool) -> None:
    answer = api.get("/v1/jobs/x", X_Request_Id=given)
    assert (answer.headers["X-Request-Id"] == given) == kept
    assert len(answer.headers["X-Request-Id"]) >= 11


def test_head_and_options_have_no_body(api: Api) -> None:
    job = api.post("/v1/jobs", ECHO).json
    headers = {"Authorization": f"Bearer {api.key}"}
    head = api.client.head(f"/v1/jobs/{job['id']}", headers=headers)
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", '"0-1-queued"')
    events = api.client.head(f"/v1/jobs/{job['id']}/events", headers={**headers, "Accept": "text/event-stream"})
    assert (events.status_code, events.data) == (200, b"")
    options = api.client.options("/v1/jobs", headers=headers)
    assert (options.status_code, options.data) == (200, b"")
    assert {"POST", "GET"} <= set(options.headers["Allow"].split(", "))


def test_refused_requests_leave_nothing_behind(api: Api) -> None:
    before = run_sql(api.engine, "SELECT count(*) AS jobs, (SELECT count(*) FROM idempotency_keys) AS keys FROM jobs")
    api.post("/v1/jobs", {**ECHO, "x": 1}, Idempotency_Key="refused")
    api.post("/v1/jobs", data=b"{", content_type="application/json", Idempotency_Key="refused")
    assert run_sql(api.engine, "SELECT count(*) AS jobs, (SELECT count(*) FROM idempotency_keys) AS keys FROM jobs") == before
    assert api.post("/v1/jobs", ECHO, Idempotency_Key="refused").status_code == 202


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "{{7*7}}", "\x1b[31mred", "\u202eevil", "😀" * 1_000, "'; DROP TABLE jobs; --", "\\u0041", "\u2028"]
)
def test_odd_text_is_stored_and_shown_as_it_is(api: Api, text: str) -> None:
    answer = api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": {text[:200]: text}}, "metadata": {text[:50]: text[:200]}})
    assert answer.status_code == 202
    shown = api.get(f"/v1/jobs/{answer.json['id']}")
    assert shown.content_type == "application/json"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert shown.json["input"] == {"payload": {text[:200]: text}}
    assert shown.json["metadata"] == {text[:50]: text[:200]}
