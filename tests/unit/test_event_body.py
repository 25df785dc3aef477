from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain.ids import Prefix, encode
from domain.job import Priority, Status
from models.event_body import OUTPUT_BYTES, event_body
from models.queries.batches import BatchView
from models.queries.endpoints import EndpointView
from models.queries.event_feed import FeedEvent
from models.queries.read import JobView

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 800_000, tzinfo=UTC)
BASE = "https://api.example.com"
JOB = JobView(
    id=UUID(int=1),
    tenant_id=UUID(int=2),
    key_id=UUID(int=3),
    batch_id=None,
    rerun_of=None,
    fence=1,
    event_seq=3,
    status=Status.SUCCEEDED,
    task="debug.echo",
    model="echo",
    pool="debug",
    priority=Priority.STANDARD,
    custom_id=None,
    attempt=1,
    failures=0,
    max_attempts=3,
    timeout_s=10.0,
    retention_s=60.0,
    created_at=MOMENT,
    available_at=MOMENT,
    deadline_at=MOMENT + timedelta(days=1),
    started_at=MOMENT,
    attempt_started_at=MOMENT,
    finished_at=MOMENT + timedelta(seconds=2),
    expires_at=MOMENT + timedelta(days=1),
    erased_at=None,
    queue_ms=1.0,
    run_ms=2.0,
    input_tokens=3,
    output_tokens=4,
    cost_usd=Decimal("0.1"),
    error_json=None,
    metadata_json='{"a": "b"}',
    input_json='{"secret": "input"}',
    output_json='{"z": 1, "a": 2}',
)


def event(**fields: Any) -> FeedEvent:
    values: dict[str, Any] = {"id": UUID(int=9), "tenant_id": UUID(int=2), "type": "job.succeeded", "created_at": MOMENT, "body": None}
    return FeedEvent(**{**values, "job_id": None, "batch_id": None, "endpoint_id": None, **fields})


def test_body_of_a_job_is_type_timestamp_and_job_without_input() -> None:
    body = event_body(event(job_id=JOB.id), base_url=BASE, job=JOB)
    assert list(orjson.loads(body)) == ["type", "timestamp", "data"]
    assert body.startswith(b'{"type":"job.succeeded","timestamp":"2026-03-04T05:06:07.800000Z","data":{"id":"job_')
    assert b'"output":{"z": 1, "a": 2},"output_truncated":false,"output_file":null' in body
    assert b"input" not in body.replace(b"input_tokens", b"")
    assert orjson.loads(body)["data"]["urls"]["self"] == f"{BASE}/v1/jobs/{encode(Prefix.JOB, JOB.id)}"
    assert event_body(event(job_id=JOB.id), base_url=BASE, job=JOB) == body


@pytest.mark.parametrize(("size", "cut"), [(OUTPUT_BYTES, False), (OUTPUT_BYTES + 1, True)])
def test_body_output_is_inlined_up_to_16_kib(size: int, cut: bool) -> None:
    job = replace(JOB, output_json='"' + "x" * (size - 2) + '"')
    data = orjson.loads(event_body(event(job_id=JOB.id), base_url=BASE, job=job))["data"]
    assert (data["output"] is None, data["output_truncated"]) == (cut, cut)


def test_body_output_is_measured_in_bytes() -> None:
    job = replace(JOB, output_json='"' + "é" * (OUTPUT_BYTES // 2) + '"')
    assert orjson.loads(event_body(event(job_id=JOB.id), base_url=BASE, job=job))["data"]["output_truncated"]


def test_body_of_a_job_whose_output_is_a_file_says_where_it_is() -> None:
    job = replace(JOB, output_json="null", output_file=UUID(int=5), output_file_bytes=2_000_000)
    data = orjson.loads(event_body(event(job_id=JOB.id), base_url=BASE, job=job))["data"]
    assert (data["output"], data["output_truncated"], data["output_file"]["bytes"]) == (None, True, 2_000_000)
    assert data["output_file"]["urls"]["content"] == f"{BASE}/v1/files/{data['output_file']['id']}/content"


def test_body_output_left_out_before_is_said_to_be() -> None:
    data = orjson.loads(event_body(event(job_id=JOB.id), base_url=BASE, job=replace(JOB, output_json=None), output_truncated=True))["data"]
    assert (data["output"], data["output_truncated"]) == (None, True)


def test_body_of_job_started_shows_nothing_of_the_end() -> None:
    ended = replace(JOB, error_json='{"code": "x"}')
    data = orjson.loads(event_body(event(job_id=JOB.id, type="job.started"), base_url=BASE, job=ended, output_truncated=True))["data"]
    assert (data["status"], data["output"], data["output_truncated"], data["error"], data["finished_at"]) == ("running", None, False, None, None)
    assert data["timing"] == {"queue_ms": 1.0, "run_ms": None, "total_ms": None}
    assert data["usage"] is None
    assert data["started_at"] is not None


def test_body_of_a_batch_and_of_an_endpoint() -> None:
    batch = BatchView(UUID(int=4), 2, {Status.SUCCEEDED: 2}, MOMENT, None, MOMENT)
    data = orjson.loads(event_body(event(batch_id=batch.id, type="batch.completed"), base_url=BASE, batch=batch))["data"]
    assert (data["object"], data["counts"]["succeeded"], data["counts"]["failed"]) == ("batch", 2, 0)
    endpoint = EndpointView(UUID(int=5), UUID(int=2), "registered", "https://x/", "", None, False, "gone", "new", 1, MOMENT, MOMENT, MOMENT)
    data = orjson.loads(event_body(event(endpoint_id=endpoint.id, type="endpoint.disabled"), base_url=BASE, endpoint=endpoint))["data"]
    assert (data["id"], data["url"], data["enabled"], data["disabled_reason"]) == (encode(Prefix.ENDPOINT, endpoint.id), "https://x/", False, "gone")


@pytest.mark.parametrize(
    ("fields", "prefix"), [({"job_id": UUID(int=1)}, Prefix.JOB), ({"batch_id": UUID(int=1)}, Prefix.BATCH), ({"endpoint_id": UUID(int=1)}, Prefix.ENDPOINT)]
)
def test_body_of_what_is_gone_names_it(fields: dict[str, UUID], prefix: Prefix) -> None:
    assert orjson.loads(event_body(event(**fields), base_url=BASE))["data"]["id"] == encode(prefix, UUID(int=1))
