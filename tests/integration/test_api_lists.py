from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from api.query import write_cursor
from domain.ids import Prefix, encode
from models.identity import new_id
from tests.support.api import Api, api_on
from tests.support.jobs import claim, give_back, new_job, submit
from tests.support.rigs import Rig, rig_of


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url) as api:
        yield api


@pytest.fixture(scope="module")
def still_api(request: pytest.FixtureRequest, rigs: Callable[[str], Rig]) -> Iterator[Api]:
    """One for all tests that change nothing; it holds two jobs."""
    with rigs(rig_of(request.node)).database() as url, api_on(url) as api:
        add(api, 2, metadata_json='{"k":"other"}')
        yield api


def add(api: Api, count: int, **fields: object) -> list[object]:
    return list(submit(api.engine, *(new_job(**{"tenant_id": api.principal.tenant_id, **fields}) for _ in range(count))))


def pages(api: Api, path: str, field: str = "id") -> Iterator[list[Any]]:
    """Follows the Link header to the end, as a client would."""
    while path:
        answer = api.get(path)
        assert answer.status_code == 200, answer.text
        yield [row[field] for row in answer.json["data"]]
        link = answer.headers.get("Link")
        assert (link is None) == (answer.json["next_cursor"] is None)
        path = link.partition("<")[2].partition(">")[0].removeprefix("http://localhost") if link else ""


def test_list_follows_link_headers_through_every_job_once(api: Api) -> None:
    add(api, 7)
    found = list(pages(api, "/v1/jobs?limit=3&status=queued,running"))
    assert [len(page) for page in found] == [3, 3, 1]
    flat = [job_id for page in found for job_id in page]
    assert flat == sorted(flat, reverse=True)
    assert len(set(flat)) == 7


@pytest.mark.parametrize("name", ["tasks", "models", "queues"])
def test_catalogue_list_follows_link_headers_through_every_row_once(api: Api, name: str) -> None:
    rows = {"tasks": api.catalogue.offered, "models": api.catalogue.offered_models, "queues": api.catalogue.pools}[name]
    found = list(pages(api, f"/v1/{name}?limit=2", "pool" if name == "queues" else "id"))
    assert [row for page in found for row in page] == list(rows)
    assert {len(page) for page in found[:-1]} == {2}
    assert api.get(f"/v1/{name}?limit=0").json["errors"][0]["pointer"] == "/limit"
    assert api.get(f"/v1/{name}?cursor=nonsense").json["errors"][0]["pointer"] == "/cursor"


def test_attempts_follow_link_headers_through_every_attempt_once(api: Api) -> None:
    job_id = submit(api.engine, new_job(tenant_id=api.principal.tenant_id))[0]
    for _ in range(2):
        give_back(api.engine, claim(api.engine, job_id))
    claim(api.engine, job_id)
    assert list(pages(api, f"/v1/jobs/{encode(Prefix.JOB, job_id)}/attempts?limit=2", "number")) == [[1, 2], [3]]


def test_list_a_page_that_is_just_full_has_no_next(api: Api) -> None:
    add(api, 2)
    answer = api.get("/v1/jobs?limit=2")
    assert (len(answer.json["data"]), answer.json["next_cursor"]) == (2, None)


def test_list_leaves_out_input_and_output_and_knows_its_jobs(api: Api) -> None:
    add(api, 1, metadata_json='{"order":"42"}')
    (job,) = api.get("/v1/jobs?metadata[order]=42").json["data"]
    assert {"input", "output"} & set(job) == set()
    assert (job["object"], job["status"], job["metadata"]) == ("job", "queued", {"order": "42"})
    assert api.get(job["urls"]["self"].removeprefix("http://localhost")).json["id"] == job["id"]


def test_list_shows_nothing_of_another_tenant(api: Api) -> None:
    add(api, 3)
    assert api.as_tenant("other").get("/v1/jobs").json == {"data": [], "next_cursor": None}


def test_list_a_cursor_keeps_its_place_while_jobs_come(api: Api) -> None:
    add(api, 4)
    first = api.get("/v1/jobs?limit=2").json
    add(api, 3)
    second = api.get(f"/v1/jobs?limit=2&cursor={first['next_cursor']}").json
    assert second["next_cursor"] is None
    assert not {job["id"] for job in first["data"]} & {job["id"] for job in second["data"]}


@pytest.mark.parametrize("text", ["100%", "a_b", "'; DROP TABLE jobs --", '"}', "\\", "ü€😀", "%25"])
def test_list_wildcards_and_quotes_are_literal(still_api: Api, text: str) -> None:
    assert still_api.get(f"/v1/jobs?metadata[k]={quote(text)}&task={quote(text)}").json["data"] == []


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("limit=0", "/limit", "out_of_range"),
        ("limit=201", "/limit", "out_of_range"),
        ("limit=-1", "/limit", "out_of_range"),
        ("limit=ten", "/limit", "out_of_range"),
        ("limit=", "/limit", "out_of_range"),
        ("limit=%D9%A3", "/limit", "out_of_range"),
        ("limit=1&limit=2", "/limit", "invalid_value"),
        ("status=foo", "/status", "invalid_value"),
        ("status=queued,", "/status", "invalid_value"),
        ("status=Queued", "/status", "invalid_value"),
        ("status=queued&status=running", "/status", "invalid_value"),
        ("status[]=queued", "/status[]", "unknown_field"),
        ("priority=urgent", "/priority", "invalid_value"),
        ("task=", "/task", "too_short"),
        ("task=a%00b", "/task", "invalid_characters"),
        ("state=queued", "/state", "unknown_field"),
        ("tenant_id=x", "/tenant_id", "unknown_field"),
        ("created_after=yesterday", "/created_after", "invalid_datetime"),
        ("created_after=2026-01-01", "/created_after", "invalid_datetime"),
        ("created_after=2026-01-01T00:00:00", "/created_after", "invalid_datetime"),
        ("created_after=2026-13-01T00:00:00Z", "/created_after", "invalid_datetime"),
        ("created_after=2026-01-01T00:00:00+01:00", "/created_after", "invalid_datetime"),
        ("created_before=99999-01-01T00:00:00Z", "/created_before", "invalid_datetime"),
        ("cursor=garbage", "/cursor", "invalid_value"),
        ("cursor=%00", "/cursor", "invalid_characters"),
        ("cursor=%F0%9F%98%80", "/cursor", "invalid_value"),
        ("cursor=AaIK", "/cursor", "invalid_value"),
        ("cursor=", "/cursor", "invalid_value"),
        ("metadata=42", "/metadata", "unknown_field"),
        ("metadata[a]=1&metadata[a]=2", "/metadata[a]", "invalid_value"),
        ("metadata[a%00]=1", "/metadata[a\x00]", "invalid_characters"),
        ("labels[a]=1", "/labels[a]", "unknown_field"),
    ],
)
def test_list_bad_parameters_are_refused_where_they_stand(still_api: Api, query: str, pointer: str, code: str) -> None:
    answer = still_api.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_filter")
    assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == [(pointer, code)]


def test_list_names_every_bad_parameter_at_once(still_api: Api) -> None:
    answer = still_api.get("/v1/jobs?limit=0&status=foo&nonsense=1")
    assert {error["pointer"] for error in answer.json["errors"]} == {"/limit", "/status", "/nonsense"}


@pytest.mark.parametrize("moment", ["2026-01-01T00:00:00Z", "2026-01-01t00:00:00.123456789z", "2026-01-01T00:00:00%2B14:00", "0001-01-01T00:00:00Z"])
def test_list_takes_rfc_3339_in_all_its_forms(still_api: Api, moment: str) -> None:
    assert len(still_api.get(f"/v1/jobs?created_after={moment}").json["data"]) == 2
    assert still_api.get(f"/v1/jobs?created_before={moment}").json["data"] == []


def test_list_takes_a_cursor_whose_job_is_gone(still_api: Api) -> None:
    assert len(still_api.get(f"/v1/jobs?cursor={write_cursor(new_id())}").json["data"]) == 2


def test_list_without_a_key_says_so_and_no_more(still_api: Api) -> None:
    answer = still_api.open("/v1/jobs?limit=0")
    assert (answer.status_code, answer.json["code"]) == (401, "missing_key")
