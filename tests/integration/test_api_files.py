"""Files over HTTP: upload, look, list, read, delete; and what is refused."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.ids import Prefix, decode, encode
from domain.media import MAX_CONTENT_BYTES
from models.identity import new_id
from models.queries.files import begin_file
from models.transactions import make_engine, unit_of_work
from storage.objects import ObjectStore, StoreLocation
from tests.integration.test_api_jobs_bad_input import assert_problem
from tests.support.api import Api, Reply, make_api
from tests.support.jobs import claim, run_sql, succeed
from tests.support.rigs import Rig, rig_of
from tests.support.sight import sight_catalogue
from tests.unit.test_media import archive, png, wav

FILES = "/v1/files"
UNKNOWN = encode(Prefix.FILE, UUID(int=1 << 100))
B = b"----boundary"
FORM = f"multipart/form-data; boundary={B.decode()}"


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    store = ObjectStore(StoreLocation(tmp_path_factory.mktemp("files").as_uri()))
    with rigs(rig_of(request.node)).database() as url:
        engine = make_engine(url, pool_size=8)
        yield make_api(engine, files=store, catalogue=sight_catalogue())
        engine.dispose()


def part(content: bytes = b"", head: bytes = b'name="file"; filename="a.png"') -> bytes:
    return b"--" + B + b"\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + B + b"--\r\n"


def send(api: Api, body: bytes, content_type: str = FORM, **headers: str) -> Reply:
    return api.post(FILES, data=body, content_type=content_type, **headers)


def upload(api: Api, content: bytes, head: bytes = b'name="file"; filename="a.png"') -> dict[str, Any]:
    answer = send(api, form(part(content, head)))
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json
    assert answer.headers["Location"] == body["urls"]["self"]
    return body


def path(url: str) -> str:
    return url.removeprefix("http://localhost")


def job(file_id: str, field: str = "image") -> dict[str, Any]:
    return {"task": "test.sight", "input": {field: {"file_id": file_id}}}


def test_upload_is_told_by_its_bytes_and_read_back(api: Api) -> None:
    content = png() + bytes(600_000)  # over several pieces
    file = upload(api, content, b'name="file"; filename="C:\\\\pictures\\\\caf\xc3\xa9.txt"\r\nContent-Type: text/html')
    assert (file["object"], file["sha256"], file["bytes"], file["content_type"]) == ("file", hashlib.sha256(content).hexdigest(), len(content), "image/png")
    assert (file["filename"], file["job_id"]) == ("café.txt", None)
    assert api.get(path(file["urls"]["self"])).json == file
    answer = api.get(path(file["urls"]["content"]))
    assert answer.data == content
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Disposition"] == "attachment; filename=\"caf_.txt\"; filename*=UTF-8''caf%C3%A9.txt"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["ETag"] == f'"{file["sha256"]}"'


def test_content_is_sent_in_part_or_not_at_all_where_that_will_do(api: Api) -> None:
    file = upload(api, png(), b'name="file"')
    assert file["filename"] is None
    content = path(file["urls"]["content"])
    assert api.get(content, If_None_Match=f'"{file["sha256"]}"').status_code == 304
    some = api.get(content, Range="bytes=1-3")
    assert (some.status_code, some.data, some.headers["Content-Range"]) == (206, b"PNG", f"bytes 1-3/{len(png())}")
    assert api.get(content, Range="bytes=1-3", If_None_Match=f'"{file["sha256"]}"').status_code == 304


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-", (10, None)),
        ("Bytes= 1-3 ", (1, 4)),
        ("bytes=5-999999", (5, None)),
        ("bytes=-4", (-4, None)),
        ("bytes=-999999", (0, None)),
    ],
)
def test_part_of_content_is_sent_as_far_as_there_is_one(api: Api, asked: str, part: tuple[int, int | None]) -> None:
    content, start = png()[part[0] : part[1]], part[0] % len(png())
    answer = api.get(path(upload(api, png())["urls"]["content"]), Range=asked)
    assert (answer.status_code, answer.data) == (206, content)
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(content) - 1}/{len(png())}"


@pytest.mark.parametrize(
    "asked", ["items=0-5", "bytes", "bytes=", "bytes=3-1", "bytes=a-b", "bytes=-", "bytes=0-1,3-4", "bytes=1 - 3", "bytes=0-5x", "bytes=+1-3"]
)
def test_range_that_is_no_single_part_is_ignored(api: Api, asked: str) -> None:
    answer = api.get(path(upload(api, png())["urls"]["content"]), Range=asked)
    assert (answer.status_code, answer.data, answer.headers["Accept-Ranges"]) == (200, png(), "bytes")


@pytest.mark.parametrize("asked", ["bytes=9999-", f"bytes={len(png())}-", "bytes=-0"])
def test_part_that_is_not_there_is_refused(api: Api, asked: str) -> None:
    answer = api.get(path(upload(api, png())["urls"]["content"]), Range=asked)
    assert_problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(png())}"


def test_part_is_sent_only_of_the_content_that_if_range_names(api: Api) -> None:
    file = upload(api, png())
    content = path(file["urls"]["content"])
    assert api.get(content, Range="bytes=1-3", If_Range=f'"{file["sha256"]}"').status_code == 206
    for other in ('"other"', f'W/"{file["sha256"]}"', "Wed, 21 Oct 2099 07:28:00 GMT", "nonsense"):
        assert api.get(content, Range="bytes=1-3", If_Range=other).status_code == 200
        assert api.get(content, Range="bytes=9999-", If_Range=other).status_code == 200


def test_files_are_listed_newest_first_by_pages(api: Api) -> None:
    tenant = api.as_tenant("lister")
    ids = [upload(tenant, png())["id"] for _ in range(3)]
    first = tenant.get(f"{FILES}?limit=2").json
    rest = tenant.get(f"{FILES}?limit=2&cursor={first['next_cursor']}").json
    assert [file["id"] for file in first["data"] + rest["data"]] == ids[::-1]
    assert rest["next_cursor"] is None


def test_file_that_is_deleted_is_gone_at_once(api: Api) -> None:
    file = upload(api, png())
    assert api.delete(path(file["urls"]["self"])).status_code == 204
    for answer in (api.delete(path(file["urls"]["self"])), api.get(path(file["urls"]["self"])), api.get(path(file["urls"]["content"]))):
        assert_problem(answer, 404, "not_found")
    assert file["id"] not in {listed["id"] for listed in api.get(f"{FILES}?limit=200").json["data"]}


def test_file_past_its_end_is_gone(api: Api) -> None:
    file = upload(api, png())
    run_sql(api.engine, "UPDATE files SET expires_at = now() WHERE id = :id", id=decode(Prefix.FILE, file["id"]))
    assert_problem(api.get(path(file["urls"]["self"])), 404, "not_found")
    assert_problem(api.post("/v1/jobs", job(file["id"])), 422, "unknown_file", "/input/image/file_id")


@pytest.mark.parametrize("call", [("GET", ""), ("GET", "/content"), ("DELETE", "")], ids=["look", "content", "delete"])
def test_file_of_another_tenant_answers_as_an_unknown_one(api: Api, call: tuple[str, str]) -> None:
    method, rest = call
    file, other = upload(api, png()), api.as_tenant("other")

    def ask(file_id: str) -> tuple[int, str]:
        answer = other.open(f"{FILES}/{file_id}{rest}", method=method, headers={"Authorization": f"Bearer {other.key}", "X-Request-Id": "same"})
        return answer.status_code, answer.text.replace(file_id, "…")

    assert ask(file["id"]) == ask(UNKNOWN)
    assert ask(file["id"])[0] == 404
    assert other.get(FILES).json["data"] == []
    assert api.get(path(file["urls"]["content"])).data == png()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code", "pointer"),
    [
        pytest.param(b"{}", "application/json", 415, "unsupported_media_type", None, id="JSON"),
        pytest.param(form(part(png())), "multipart/form-data", 415, "unsupported_media_type", None, id="no boundary"),
        pytest.param(form(part(png())), f"multipart/form-data; boundary={'x' * 71}", 415, "unsupported_media_type", None, id="long boundary"),
        pytest.param(b"", FORM, 422, "required", "/file", id="empty"),
        pytest.param(b"garbage", FORM, 400, "invalid_multipart", None, id="garbage"),
        pytest.param(part(png()), FORM, 400, "invalid_multipart", None, id="no end"),
        pytest.param(part(png())[:-40], FORM, 400, "invalid_multipart", None, id="cut off"),
        pytest.param(form(part(png(), b'name="file"; filename="a"\r\n' + b"x: " + b"y" * 600_000)), FORM, 400, "invalid_multipart", None, id="long head"),
        pytest.param(form(part(png(), b"\xff")), FORM, 400, "invalid_multipart", None, id="head not UTF-8"),
        pytest.param(form(part(png()), b"x" * 600_000), FORM, 400, "invalid_multipart", None, id="long end"),
        pytest.param(form(), FORM, 422, "required", "/file", id="no part"),
        pytest.param(form(part(png(), b'filename="a"')), FORM, 422, "unknown_field", "/", id="no name"),
        pytest.param(form(part(png(), b'name="image"; filename="a"')), FORM, 422, "unknown_field", "/image", id="another name"),
        pytest.param(form(part(png()), part(png())), FORM, 422, "too_many_items", "/file", id="two files"),
        pytest.param(form(part(png()), part(b"1", b'name="purpose"')), FORM, 422, "unknown_field", "/purpose", id="a field after it"),
        pytest.param(form(part(b"1", b'name="purpose"'), part(png())), FORM, 422, "unknown_field", "/purpose", id="a field before it"),
        pytest.param(form(part(png(), b'name="file"; filename="' + b"a" * 256 + b'"')), FORM, 422, "too_long", "/file", id="long file name"),
        pytest.param(form(part(png(), b'name="file"; filename="a\x01b"')), FORM, 422, "invalid_characters", "/file", id="odd file name"),
        pytest.param(form(part(b"")), FORM, 422, "unsupported_format", "/file", id="no content"),
        pytest.param(form(part(b"text, though called .png")), FORM, 422, "unsupported_format", "/file", id="text"),
        pytest.param(form(part(b"<svg xmlns='http://www.w3.org/2000/svg'/>")), FORM, 422, "unsupported_format", "/file", id="svg"),
        pytest.param(form(part(archive())), FORM, 422, "unsupported_format", "/file", id="an archive"),
        pytest.param(form(part(png() + bytes(MAX_CONTENT_BYTES - len(png()) + 1))), FORM, 413, "body_too_large", None, id="one byte over"),
        pytest.param(form(part(png() + bytes(MAX_CONTENT_BYTES + 100_000))), FORM, 413, "body_too_large", None, id="far over"),
    ],
)  # fmt: skip
def test_upload_of_any_other_form_is_refused(api: Api, body: bytes, content_type: str, status: int, code: str, pointer: str | None) -> None:
    assert_problem(send(api, body, content_type), status, code, pointer)
    assert run_sql(api.engine, "SELECT FROM files WHERE state = 'pending'") == []


def test_upload_of_just_the_limit_is_taken(api: Api) -> None:
    assert upload(api, png() + bytes(MAX_CONTENT_BYTES - len(png())))["bytes"] == MAX_CONTENT_BYTES


def test_upload_whose_length_says_that_it_is_too_large_is_not_read(api: Api) -> None:
    class Untouched(BytesIO):
        def read(self, *_: object) -> bytes:
            raise AssertionError("it was read")

    claim_of_length = {"CONTENT_LENGTH": str(MAX_CONTENT_BYTES + 1_000_000), "CONTENT_TYPE": FORM, "HTTP_AUTHORIZATION": f"Bearer {api.key}"}
    assert_problem(api.open(FILES, method="POST", input_stream=Untouched(), environ_overrides=claim_of_length), 413, "body_too_large")


def test_upload_shorter_than_its_length_is_refused(api: Api) -> None:
    body = form(part(png()))
    longer = {"CONTENT_LENGTH": str(len(body) + 10), "CONTENT_TYPE": FORM, "HTTP_AUTHORIZATION": f"Bearer {api.key}"}
    assert_problem(api.open(FILES, method="POST", data=body, environ_overrides=longer), 400, "incomplete_body")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Idempotency_Key": "k"}, 422, "not_available"),
        ({"Content_Encoding": "gzip"}, 415, "unsupported_encoding"),
    ],
)
def test_upload_with_a_header_that_it_does_not_take(api: Api, headers: dict[str, str], status: int, code: str) -> None:
    assert_problem(send(api, form(part(png())), **headers), status, code)


@pytest.mark.parametrize("url", [f"{FILES}?x=1", f"{FILES}/{UNKNOWN}?x=1", f"{FILES}?limit=0", f"{FILES}?cursor=!"])
def test_query_that_is_not_understood_is_refused(api: Api, url: str) -> None:
    assert api.get(url).status_code == 422


def test_store_that_is_away_answers_503_and_leaves_nothing_to_be_seen(api: Api, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    away = make_api(api.engine, files=ObjectStore(StoreLocation((tmp_path / "file" / "inside").as_uri())), catalogue=api.catalogue).as_tenant("unlucky")
    answer = send(away, form(part(png())))
    assert_problem(answer, 503, "service_unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert away.get(FILES).json["data"] == []
    file = upload(api.as_tenant("unlucky"), png())
    assert_problem(away.get(path(file["urls"]["content"])), 503, "service_unavailable")


def test_upload_past_the_tenants_quota_is_refused_until_files_are_deleted(api: Api, tmp_path: Path) -> None:
    quota, content = 10_000, png() + bytes(4_000)
    files = ObjectStore(StoreLocation(tmp_path.as_uri()))
    full = make_api(api.engine, files=files, catalogue=api.catalogue, files_quota_bytes=quota).as_tenant("hoarder")
    first = upload(full, content)
    upload(full, content)
    refused = send(full, form(part(content)))
    assert_problem(refused, 409, "storage_quota_exceeded")
    assert f"{2 * len(content)} of {quota}" in refused.json["detail"]
    assert len(full.get(FILES).json["data"]) == 2
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2  # nothing was stored of what was refused
    assert upload(api.as_tenant("other-hoarder"), content)
    assert full.delete(path(first["urls"]["self"])).status_code == 204
    upload(full, content)


def test_upload_under_way_counts_for_what_it_may_become(api: Api) -> None:
    full = make_api(api.engine, files=ObjectStore(StoreLocation("memory://quota")), catalogue=api.catalogue, files_quota_bytes=10_000).as_tenant("racer")
    tenant_id = full.principal.tenant_id
    with unit_of_work(api.engine) as connection:
        begun = begin_file(connection, file_id=new_id(), tenant_id=tenant_id, object_key="k", filename=None, size_bytes=10_000, quota_bytes=10_000)
    assert begun is None
    assert_problem(send(full, form(part(png()))), 409, "storage_quota_exceeded")
    run_sql(api.engine, "DELETE FROM files WHERE tenant_id = :id", id=tenant_id)


# --- jobs that name files


def test_job_is_taken_with_a_file_of_its_tenant_and_keeps_it(api: Api) -> None:
    file = upload(api, png())
    answer = api.post("/v1/jobs", job(file["id"]))
    assert answer.status_code == 202, answer.text
    assert run_sql(api.engine, "SELECT file_id FROM job_files WHERE job_id = :id", id=decode(Prefix.JOB, answer.json["id"])) == [
        (decode(Prefix.FILE, file["id"]),)
    ]


@pytest.mark.parametrize(
    ("value", "code", "pointer"),
    [
        ({"file_id": UNKNOWN}, "unknown_file", "/input/image/file_id"),
        ({"file_id": "file_01"}, "unknown_file", "/input/image/file_id"),
        ({"file_id": UNKNOWN.replace("file", "job")}, "unknown_file", "/input/image/file_id"),
        ({"file_id": 1}, "wrong_type", "/input/image/file_id"),
        ({"base64": "AAA"}, "invalid_base64", "/input/image/base64"),
        ({"base64": "_-8="}, "invalid_base64", "/input/image/base64"),
        ({"base64": "data:image/png;base64,AAAA"}, "invalid_base64", "/input/image/base64"),
        ({"base64": base64.b64encode(archive()).decode()}, "unsupported_format", "/input/image/base64"),
        ({"base64": base64.b64encode(wav()).decode()}, "unsupported_format", "/input/image/base64"),
        ({"base64": "AAAA", "content_type": ""}, "too_short", "/input/image/content_type"),
        ({"url": "ftp://example.com/a.png"}, "url_scheme", "/input/image/url"),
        ({"url": "file:///etc/passwd"}, "url_scheme", "/input/image/url"),
        ({"url": "//example.com/a.png"}, "invalid_url", "/input/image/url"),
        ({"url": "https://user@example.com/"}, "invalid_url", "/input/image/url"),
        ({"url": "https://example.com:22/"}, "url_port", "/input/image/url"),
        ({"url": "https://169.254.169.254/"}, "url_forbidden", "/input/image/url"),
        ({"url": "https://127.0.0.1/"}, "url_forbidden", "/input/image/url"),
        ({}, "invalid_value", "/input/image"),
        ({"file_id": UNKNOWN, "url": "https://example.com/"}, "invalid_value", "/input/image"),
        ({"url": "https://example.com/", "method": "POST"}, "unknown_field", "/input/image/method"),
        ("file_01", "invalid_value", "/input/image"),
    ],
)  # fmt: skip
def test_job_with_a_binary_input_that_cannot_be(api: Api, value: object, code: str, pointer: str) -> None:
    assert_problem(api.post("/v1/jobs", {"task": "test.sight", "input": {"image": value}}), 422, code, pointer)


def test_job_with_a_file_of_another_tenant_or_of_another_kind(api: Api) -> None:
    file = upload(api, png())
    assert_problem(api.as_tenant("other").post("/v1/jobs", job(file["id"])), 422, "unknown_file", "/input/image/file_id")
    assert_problem(api.post("/v1/jobs", job(file["id"], "sound")), 422, "unsupported_format", "/input/sound/file_id")


def test_batch_with_unknown_files_names_each(api: Api) -> None:
    good = upload(api, png())["id"]
    body = assert_problem(api.post("/v1/batches", {"jobs": [job(good), job(UNKNOWN), job(good, "sound")]}), 422, "invalid_batch")
    found = [(error["pointer"], error["code"]) for error in body["errors"]]
    assert found == [("/jobs/1/input/image/file_id", "unknown_file"), ("/jobs/2/input/sound/file_id", "unsupported_format")]
    assert api.post("/v1/batches", {"jobs": [job(good), job(good)]}).status_code == 202


def test_request_that_is_repeated_gets_its_job_though_the_file_is_gone(api: Api) -> None:
    file = upload(api, png())
    first = api.post("/v1/jobs", job(file["id"]), Idempotency_Key="again")
    batch = api.post("/v1/batches", {"jobs": [job(file["id"])]}, Idempotency_Key="again")
    api.delete(path(file["urls"]["self"]))
    assert api.post("/v1/jobs", job(file["id"]), Idempotency_Key="again").json["id"] == first.json["id"]
    assert api.post("/v1/batches", {"jobs": [job(file["id"])]}, Idempotency_Key="again").json["id"] == batch.json["id"]
    assert_problem(api.post("/v1/jobs", job(file["id"]), Idempotency_Key="anew"), 422, "unknown_file", "/input/image/file_id")
    assert_problem(api.post("/v1/batches", {"jobs": [job(file["id"])]}, Idempotency_Key="anew"), 422, "invalid_batch")


def test_rerun_of_a_job_whose_file_is_gone_is_refused(api: Api) -> None:
    file = upload(api, png())
    first = api.post("/v1/jobs", job(file["id"])).json
    job_id = decode(Prefix.JOB, first["id"])
    assert job_id is not None
    succeed(api.engine, claim(api.engine, job_id, model="sight"))
    assert api.post(path(first["urls"]["rerun"])).status_code == 202
    api.delete(path(file["urls"]["self"]))
    assert_problem(api.post(path(first["urls"]["rerun"])), 422, "unknown_file", "/input/image/file_id")
