"""Files through whole processes: an upload in chunks, one that breaks off, and a worker that dies between storing its output and saying so."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import SHUT_WR, create_connection
from typing import Any

import pytest

from tests.support.jobs import run_sql
from tests.support.platform import KEY, Api, Platform, echo_catalogue
from tests.support.sight import SIGHT_TOML
from tests.support.waiting import wait_until
from tests.unit.test_media import png

pytestmark = pytest.mark.chaos

CONTENT = png() + bytes(3_000_000)
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
FORM = "multipart/form-data; boundary=b"


def in_chunks() -> Iterator[bytes]:
    yield HEAD
    for start in range(0, len(CONTENT), 100_000):
        yield CONTENT[start : start + 100_000]
    yield b"\r\n--b--\r\n"


def breaks_off(api: Api) -> bytes:
    """Half of what its Content-Length says; what the server answers."""
    head = f"POST /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {FORM}\r\nContent-Length: 2000000\r\n\r\n"
    url = api.client.base_url
    with closing(create_connection((url.host, url.port), 10)) as connection:
        connection.sendall(head.encode() + HEAD + CONTENT[:1_000_000])
        connection.shutdown(SHUT_WR)
        return connection.recv(65_536)


def objects(platform: Platform) -> int:
    return sum(path.is_file() for path in (platform.folder / "state" / "files").rglob("*"))


def listed(api: Api) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = api.client.get("/v1/files").json()["data"]
    return files


def test_file_is_uploaded_read_by_a_job_and_given_once_though_the_worker_dies(bare: Platform) -> None:
    catalogue: Path = bare.write_catalogue(echo_catalogue() + SIGHT_TOML)
    bare.catalogue = catalogue
    with bare.api() as api, bare.maintenance(prune_every_s=0.2), bare.worker(concurrency=1):
        answer = api.client.post("/v1/files", content=in_chunks(), headers={"Content-Type": FORM})
        assert answer.status_code == 201, answer.text
        assert b"HTTP/1.1 201" not in breaks_off(api)
        uploaded = answer.json()
        assert [file["id"] for file in listed(api)] == [uploaded["id"]]
        assert api.client.get(uploaded["urls"]["content"]).content == CONTENT

        job_input = {"image": {"file_id": uploaded["id"]}, "copies": True, "dies": True}
        job = api.client.post("/v1/jobs", json={"task": "test.sight", "input": job_input}).json()
        wait_until(lambda: api.client.get(job["urls"]["self"]).json()["status"] in {"succeeded", "failed"}, 40.0, what="the job to end")
        job = api.client.get(job["urls"]["self"]).json()
        assert (job["status"], job["attempt"]) == ("succeeded", 2), job
        given = listed(api)[0]
        assert [file["id"] for file in listed(api)] == [job["output"]["file_id"], uploaded["id"]]
        assert (given["job_id"], given["expires_at"]) == (job["id"], job["expires_at"])
        assert api.client.get(given["urls"]["content"]).content == CONTENT

        assert objects(bare) >= 3, "the first attempt left one too"
        run_sql(bare.engine, "UPDATE files SET expires_at = now() - interval '1 hour' WHERE state = 'pending'")
        wait_until(lambda: objects(bare) == 2, 10.0, what="what the dead left to be erased")
        assert api.client.delete(uploaded["urls"]["self"]).status_code == 204
        wait_until(lambda: objects(bare) == 1, 10.0, what="the deleted file's content to be erased")
