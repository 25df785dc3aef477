"""Binary inputs on their way to a model: from inside the request, from URLs; each job's fails alone."""

import base64
import gzip
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domain.contracts import Blob, contract_of
from domain.failures import InferenceError
from domain.ids import Prefix, encode
from models.identity import new_id
from models.queries.finish import Ending, Return
from storage.objects import ObjectStore, StoreLocation
from tests.support import sight
from tests.support.receivers import Manner, Receiver, answering, closing, dripping, endless, hanging
from tests.support.worker_parts import claimed_job, worker_config
from tests.unit.test_media import archive, png, wav
from workers.board import Board
from workers.execution import Bench, parse, run
from workers.media import BOUNDS, FETCHES, MediaResolver, Resolved
from workers.outbound.client import Bounds, OutboundClient
from workers.outbound.resolver import Resolver

CONTRACT = contract_of(sight)
TLS = ssl.create_default_context()  # takes a third of a second
QUICK = Bounds(connect_s=1.0, total_s=1.0, answer_bytes=100_000)


def resolver(*, allow_private: bool = True, bounds: Bounds = QUICK) -> MediaResolver:
    client = OutboundClient(Resolver(threads=2), allow_private=allow_private, bounds=bounds, tls=TLS)
    return MediaResolver(client, ObjectStore(StoreLocation("memory://none")), lambda _: {})


def resolved(*forms: dict[str, Any], timeout_s: float = 60.0, **options: Any) -> list[Resolved]:
    inputs = [(new_id(), sight.Input.model_validate({"image": form})) for form in forms]
    return resolver(**options).resolve(inputs, CONTRACT.media, timeout_s=timeout_s)


def failure(form: dict[str, Any], **options: Any) -> InferenceError:
    (found,) = resolved(form, **options)
    assert isinstance(found, InferenceError)
    return found


def inside(content: bytes, **more: str) -> dict[str, str]:
    return {"base64": base64.b64encode(content).decode(), **more}


def test_content_inside_the_request_is_what_it_is_whatever_it_says() -> None:
    assert resolved(inside(png(), content_type="application/pdf")) == [{"image": Blob(png(), "image/png")}]


@pytest.mark.parametrize(
    ("form", "code"),
    [({"base64": "AAA"}, "invalid_base64"), (inside(archive()), "unsupported_format"), (inside(wav()), "unsupported_format")],
    ids=["no base64", "an archive", "the other kind"],
)
def test_content_inside_the_request_that_cannot_be_taken(form: dict[str, str], code: str) -> None:
    error = failure(form)
    assert (error.code, error.retryable) == (code, False)


def test_content_at_a_url_is_fetched_and_told_by_its_bytes() -> None:
    with Receiver(answering(headers={"content-type": "text/html"}, body=png())) as receiver:
        assert resolved({"url": receiver.url}) == [{"image": Blob(png(), "image/png")}]
    assert receiver.got[0].line == "GET /hook HTTP/1.1"


@pytest.mark.parametrize(
    ("manner", "code", "retryable"),
    [
        pytest.param(answering(404), "input_fetch_failed", False, id="404"),
        pytest.param(answering(302, headers={"location": "http://127.0.0.1/"}), "input_fetch_failed", False, id="redirect"),
        pytest.param(answering(503), "input_fetch_failed", True, id="503"),
        pytest.param(answering(429), "input_fetch_failed", True, id="429"),
        pytest.param(answering(206, body=png()), "input_fetch_failed", False, id="a part"),
        pytest.param(endless, "input_fetch_failed", False, id="endless"),
        pytest.param(hanging, "input_fetch_failed", True, id="hangs"),
        pytest.param(dripping(b"x", first=b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n"), "input_fetch_failed", True, id="drips"),
        pytest.param(closing, "input_fetch_failed", True, id="closes"),
        pytest.param(answering(headers={"content-encoding": "gzip"}, body=gzip.compress(png())), "unsupported_format", False, id="compressed"),
        pytest.param(answering(body=b"<html>not found</html>"), "unsupported_format", False, id="a page"),
        pytest.param(answering(), "unsupported_format", False, id="nothing"),
    ],
)
def test_content_at_a_url_that_cannot_be_had(manner: Manner, code: str, retryable: bool) -> None:
    with Receiver(manner) as receiver:
        error = failure({"url": receiver.url})
    assert (error.code, error.retryable) == (code, retryable)


def test_content_at_a_private_address_is_not_fetched() -> None:
    with Receiver(answering(body=png())) as receiver:
        error = failure({"url": receiver.url}, allow_private=False)
        assert (error.code, error.retryable) == ("input_fetch_failed", False)
    assert not receiver.got


def test_content_of_a_micro_batch_is_fetched_side_by_side_and_in_order() -> None:
    """Three that take half of the time-out each: one after the other they would take all of it and more."""
    with Receiver(hanging) as slow, Receiver(answering(body=png())) as good:
        found = resolved(*[{"url": slow.url}, {"url": good.url}] * 3, inside(png()), {"base64": "?"}, timeout_s=2.0)
    assert [item.code if isinstance(item, InferenceError) else "" for item in found] == ["input_fetch_failed", ""] * 3 + ["", "invalid_base64"]
    assert good.connections == slow.connections == 3


def test_content_of_more_jobs_than_are_fetched_at_once_takes_no_longer() -> None:
    with Receiver(hanging) as slow:
        began_at = time.monotonic()
        found = resolved(*[{"url": slow.url}] * (2 * FETCHES + 1), timeout_s=4.0, bounds=replace(QUICK, total_s=2.0))
    assert time.monotonic() - began_at < 4.0  # three rounds of two seconds would outlast the attempt
    assert {isinstance(item, InferenceError) and (item.code, item.retryable) for item in found} == {("input_fetch_failed", True)}


def test_files_of_a_store_that_hangs_cost_half_of_the_time_out() -> None:
    """The run goes on to fail for its own reason; a child that waited longer would be killed, with all that it runs."""
    with Receiver(hanging) as slow:
        location = StoreLocation("s3://bucket", endpoint_url=f"http://127.0.0.1:{slow.port}", access_key="a", secret_key="b")
        client = OutboundClient(Resolver(threads=2), allow_private=True, bounds=BOUNDS, tls=TLS)
        media = MediaResolver(client, ObjectStore(location), lambda wanted: dict.fromkeys(wanted, "a key"))
        inputs = [(new_id(), sight.Input.model_validate({"image": {"file_id": encode(Prefix.FILE, new_id())}})) for _ in range(FETCHES + 1)]
        began_at = time.monotonic()
        found = media.resolve(inputs, CONTRACT.media, timeout_s=4.0)
        took_s = time.monotonic() - began_at
    assert took_s < 4.0
    assert {isinstance(item, InferenceError) and (item.code, item.retryable) for item in found} == {("files_unavailable", True)}


def test_file_is_not_read_when_there_is_no_time_left(tmp_path: Path) -> None:
    """A folder's reads cannot be given up, so none is begun."""
    store = ObjectStore(StoreLocation(tmp_path.as_uri()))
    store.write("a-key", [png()])
    client = OutboundClient(Resolver(threads=2), allow_private=True, bounds=BOUNDS, tls=TLS)
    media = MediaResolver(client, store, lambda wanted: dict.fromkeys(wanted, "a-key"))
    asked = [(new_id(), sight.Input.model_validate({"image": {"file_id": encode(Prefix.FILE, new_id())}}))]
    (found,) = media.resolve(asked, CONTRACT.media, timeout_s=0.0)
    assert isinstance(found, InferenceError)
    assert (found.code, found.message) == ("files_unavailable", "the file was not read: there was no time left")
    (found,) = media.resolve(asked, CONTRACT.media, timeout_s=10.0)
    assert not isinstance(found, InferenceError)


def test_content_is_bounded_as_the_contract_says() -> None:
    assert BOUNDS.answer_bytes == 25 * 1024 * 1024 + 1
    with Receiver(answering(body=png() + bytes(QUICK.answer_bytes))) as receiver:
        assert failure({"url": receiver.url}).code == "input_fetch_failed"


def test_job_whose_content_cannot_be_had_ends_without_its_mates(tmp_path: Path) -> None:
    config = worker_config(tmp_path)
    written: list[Ending | Return] = []

    def write(outcomes: Any) -> int:
        written.extend(outcomes)
        return len(outcomes)

    place = Board.create(tmp_path / "board", 1).place(0)
    bench = Bench(
        config.catalogue.models["echo"], config.catalogue.tasks["debug.echo"], CONTRACT, sight.Sight(), write, lambda *_: None, None, place, media=resolver()  # type: ignore[arg-type]
    )  # fmt: skip
    forms = [inside(png()), {"base64": "?"}, inside(png(2, 2))]
    jobs = [claimed_job(input_json=sight.Input.model_validate({"image": form}).model_dump_json()) for form in forms]
    works, refused = parse(bench, jobs, jobs.index)
    assert not refused

    assert run(bench, works) == 3

    by_id = {outcome.id: outcome for outcome in written}
    good, bad, other = (by_id[job.id] for job in jobs)
    assert isinstance(bad, Ending)
    assert bad.failure is not None
    assert bad.failure.code == "invalid_base64"
    assert [isinstance(ending, Ending) and ending.output_json for ending in (good, other)] == [
        f'{{"bytes":{len(png(*size))},"content_type":"image/png","file_id":null,"padding":""}}' for size in ((1, 1), (2, 2))
    ]


def test_input_that_leaves_its_binary_fields_out_has_nothing_to_resolve() -> None:
    assert resolver().resolve([(new_id(), sight.Input())], CONTRACT.media, timeout_s=1.0) == [{}]
