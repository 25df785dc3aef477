"""The feed of events over HTTP: order, places to go on from, and what it says of each event."""

from collections.abc import Iterator
from typing import Any

import pytest

from domain.ids import Prefix, decode, encode
from models.event_body import ensure_bodies
from models.identity import new_id
from models.transactions import unit_of_work
from tests.support.api import Api, Reply, api_on
from tests.support.deliveries import end_jobs, endpoint, take
from tests.support.jobs import run_sql
from tests.support.waiting import wait_until

PATH = "/v1/events"


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    with api_on(database_url) as api:
        yield api


def pull(api: Api, query: str = "") -> dict[str, Any]:
    answer = api.get(f"{PATH}?{query}")
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json
    return page


def ended(api: Api, count: int, output_json: str | None = None) -> list[str]:
    """Jobs that ended, once the feed may show it: it waits for transactions of other databases of the same server too."""
    ids = [encode(Prefix.JOB, job_id) for job_id in end_jobs(api.engine, count, tenant_id=api.principal.tenant_id)]
    wait_until(lambda: {event["data"]["id"] for event in pull(api, "limit=200")["data"]} >= set(ids), 30, what="the feed shows the jobs")
    return ids


def assert_refused(answer: Reply, status: int, code: str) -> None:
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text


def test_feed_is_pulled_to_its_end_and_on_from_there(api: Api) -> None:
    assert pull(api) == {"data": [], "next_cursor": None}
    jobs = ended(api, 5)
    seen: list[str] = []
    after = ""
    while page := pull(api, f"limit=2{after}")["data"]:
        seen += [event["data"]["id"] for event in page]
        after = f"&after={page[-1]['id']}"
    assert sorted(seen) == sorted(jobs)
    last = after.removeprefix("&after=")
    assert pull(api, f"limit=2{after}") == {"data": [], "next_cursor": last}
    (more,) = ended(api, 1)
    assert [event["data"]["id"] for event in pull(api, f"after={last}")["data"]] == [more]


def test_feed_has_a_link_while_there_is_more(api: Api) -> None:
    ended(api, 3)
    first = api.get(f"{PATH}?limit=2")
    place = first.headers["Link"].partition("<")[2].partition(">")[0].removeprefix("http://localhost")
    second = api.get(place)
    assert [len(first.json["data"]), len(second.json["data"])] == [2, 1]
    assert first.json["next_cursor"] == first.json["data"][-1]["id"]
    assert "Link" not in second.headers


def test_feed_newest_says_where_it_ends_and_shows_nothing(api: Api) -> None:
    assert pull(api, "after=newest") == {"data": [], "next_cursor": None}
    ended(api, 2)
    whole = pull(api)
    assert pull(api, "after=newest") == {"data": [], "next_cursor": whole["data"][-1]["id"]}


def test_feed_events_are_thin_jobs_of_the_public_address(api: Api) -> None:
    (job_id,) = ended(api, 1)
    (event,) = pull(api)["data"]
    assert (event["type"], event["timestamp"]) == ("job.succeeded", event["data"]["finished_at"])
    assert (event["data"]["id"], event["data"]["status"], event["data"]["output"], event["data"]["output_truncated"]) == (
        job_id,
        "succeeded",
        {"payload": 1},
        False,
    )
    assert "input" not in event["data"]
    assert event["data"]["urls"]["self"] == f"http://mill.example/v1/jobs/{job_id}"


def test_feed_says_byte_for_byte_what_a_receiver_is_sent(api: Api) -> None:
    endpoint_id = endpoint(api.engine, tenant_id=api.principal.tenant_id)
    ended(api, 1)
    rendered = api.get(PATH).data
    (claimed,) = take(api.engine, endpoint_id).deliveries
    with unit_of_work(api.engine) as connection:
        body = ensure_bodies(connection, event_ids=[claimed.event_id], base_url="http://mill.example")[claimed.event_id]
    assert api.get(PATH).data == rendered
    assert b'{"id":"%b",%b' % (encode(Prefix.EVENT, claimed.event_id).encode(), body[1:]) in rendered


def test_feed_keeps_what_was_stored_though_the_job_is_gone(api: Api) -> None:
    ended(api, 1)
    (event,) = pull(api)["data"]
    with unit_of_work(api.engine) as connection:
        ensure_bodies(connection, event_ids=[decode(Prefix.EVENT, event["id"]) or new_id()], base_url="http://mill.example")
    run_sql(api.engine, "DELETE FROM jobs")
    assert pull(api)["data"] == [event]


def test_feed_shows_pings_and_endpoints(api: Api) -> None:
    place = api.post("/v1/webhook-endpoints", {"url": "https://hooks.example.com/"}).json["urls"]["test"].removeprefix("http://localhost")
    delivery = api.post(place).json
    wait_until(lambda: pull(api)["data"], 30, what="the feed shows the ping")
    (event,) = pull(api)["data"]
    assert (event["type"], event["id"], event["data"]["id"]) == ("ping", delivery["event_id"], delivery["endpoint_id"])
    assert "whsec_" not in str(event)


def test_feed_after_an_event_that_is_not_the_callers_is_gone(api: Api) -> None:
    ended(api, 1)
    theirs = pull(api)["data"][0]["id"]
    other = api.as_tenant("other")
    assert pull(other) == {"data": [], "next_cursor": None}
    for event_id in (theirs, encode(Prefix.EVENT, new_id())):
        assert_refused(other.get(f"{PATH}?after={event_id}"), 410, "unknown_event")


@pytest.mark.parametrize("query", ["after=", "after=x", "after=job_01", "limit=0", "limit=201", "cursor=x", "after=newest&after=newest", "type=ping"])
def test_feed_bad_parameters_are_refused(api: Api, query: str) -> None:
    assert_refused(api.get(f"{PATH}?{query}"), 422, "invalid_filter")


def test_feed_needs_a_key(api: Api) -> None:
    assert_refused(api.open(PATH), 401, "missing_key")
