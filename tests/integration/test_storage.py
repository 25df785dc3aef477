"""The store of files: a folder, memory, and an S3-compatible server that is there, is not there, and has no such bucket."""

import gc
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import boto3
import pytest
from moto.server import ThreadedMotoServer

from models.identity import new_id
from storage.objects import BLOCK_BYTES, ObjectGone, ObjectStore, StoreAway, StoreLocation, StoreRefuses, object_key
from tests.support.receivers import Receiver, answering

TENANT = UUID(int=7)


@pytest.fixture(scope="module")
def s3() -> Iterator[StoreLocation]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    location = StoreLocation("s3://bucket/pre/fix", endpoint_url=f"http://{host}:{port}", access_key="a", secret_key="b")
    client = boto3.client("s3", endpoint_url=location.endpoint_url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    client.create_bucket(Bucket="bucket")
    yield location
    server.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "s3":
        return ObjectStore(request.getfixturevalue("s3"))
    return ObjectStore(StoreLocation((tmp_path / "a" / "b").as_uri() if request.param == "folder" else "memory://a/b"))


def test_object_is_written_read_and_deleted(store: ObjectStore) -> None:
    key = object_key(TENANT, new_id())
    pieces = [b"a" * 1_000_000, b"b" * BLOCK_BYTES, b"c"]
    store.write(key, pieces)
    assert store.read(key) == b"".join(pieces)
    with store.open(key) as stream:
        stream.seek(999_998)
        assert stream.read(4) == b"aabb"
    store.delete(key)
    store.delete(key)
    for read in (store.read, store.open):
        with pytest.raises(ObjectGone):
            read(key)


@pytest.mark.parametrize("sent", [b"a", b"a" * (BLOCK_BYTES + 1)], ids=["little", "much"])
def test_object_that_breaks_off_is_not_there(store: ObjectStore, sent: bytes) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield sent
        raise ConnectionError

    key = object_key(TENANT, new_id())
    with pytest.raises(ConnectionError):
        store.write(key, breaks_off())
    gc.collect()  # S3's stream completes its object when it is collected, unless it was told not to
    store.delete(key)
    with pytest.raises(ObjectGone):
        store.read(key)


def test_object_in_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    store = ObjectStore(StoreLocation(tmp_path.as_uri()))
    key = object_key(TENANT, new_id())

    def looks() -> Iterator[bytes]:
        yield b"a"
        assert not (tmp_path / key).exists()
        yield b"b"

    store.write(key, looks())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(key).name]


def test_object_of_s3_that_breaks_off_was_never_there(s3: StoreLocation) -> None:
    store, key = ObjectStore(s3), object_key(TENANT, new_id())

    def breaks_off() -> Iterator[bytes]:
        yield b"a"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        store.write(key, breaks_off())
    gc.collect()
    with pytest.raises(ObjectGone):
        store.read(key)


@pytest.mark.parametrize("how", ["nobody listens", "no such bucket", "no folder"])
def test_store_that_is_away_says_so(how: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    locations = {
        "nobody listens": StoreLocation("s3://bucket", endpoint_url="http://127.0.0.1:9", access_key="a", secret_key="b"),
        "no folder": StoreLocation((tmp_path / "file" / "below").as_uri()),
    }
    location = locations.get(how) or StoreLocation("s3://nosuch", endpoint_url=request.getfixturevalue("s3").endpoint_url, access_key="a", secret_key="b")
    store, key = ObjectStore(location), object_key(TENANT, new_id())
    with pytest.raises(StoreAway):
        store.write(key, [b"a"])
    if how == "no folder":  # with S3 each call tries for seconds
        for call in (store.read, store.open, store.delete):
            with pytest.raises(StoreAway):
                call(key)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(403, "AccessDenied", StoreRefuses), (400, "InvalidRequest", StoreRefuses), (503, "SlowDown", StoreAway), (500, "InternalError", StoreAway)],
)
def test_answer_that_an_object_stays_is_told_from_a_store_that_is_ill(status: int, code: str, kind: type[StoreAway]) -> None:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    with Receiver(answering(status, headers={"content-type": "application/xml"}, body=body)) as receiver:
        store = ObjectStore(StoreLocation("s3://bucket", endpoint_url=f"http://127.0.0.1:{receiver.port}", access_key="a", secret_key="b"))
        with pytest.raises(StoreAway) as caught:
            store.delete(object_key(TENANT, new_id()))
    assert caught.type is kind


def test_key_is_below_its_tenant_and_never_the_same() -> None:
    file_id = new_id()
    first, second = object_key(TENANT, file_id), object_key(TENANT, file_id)
    assert first != second
    assert first.startswith(f"{TENANT.hex}/")
