import io
import threading
import time
from typing import Any

import pytest

from api.body import BodyReader
from domain.errors import BodyTooLarge, IncompleteBody


class Stalled:
    """A client that sends nothing, until it goes away."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.reads = 0

    def read(self, _size: int) -> bytes:
        self.reads += 1
        self.gone.wait(30)
        return b""


class Broken:
    def read(self, _size: int) -> bytes:
        raise OSError("reset")


def environ(stream: Any, *, terminated: bool = True) -> dict[str, Any]:
    return {"wsgi.input": stream, **({"wsgi.input_terminated": True} if terminated else {})}


def test_read_gives_the_body_by_length_and_in_chunks() -> None:
    reader = BodyReader()
    assert reader.read(environ(io.BytesIO(b"12345")), limit_bytes=5, length=5) == b"12345"
    assert reader.read(environ(io.BytesIO(b"12345")), limit_bytes=5, length=None) == b"12345"
    assert reader.read(environ(io.BytesIO(b"12345678")), limit_bytes=9, length=5) == b"12345"


def test_read_without_length_or_terminated_input_is_empty() -> None:
    assert BodyReader().read(environ(Stalled(), terminated=False), limit_bytes=5, length=None) == b""
    assert BodyReader().read(environ(Stalled()), limit_bytes=5, length=0) == b""


def test_read_over_the_limit_by_length_reads_nothing() -> None:
    stalled = Stalled()
    with pytest.raises(BodyTooLarge):
        BodyReader().read(environ(stalled), limit_bytes=5, length=6)
    assert stalled.reads == 0


def test_read_over_the_limit_in_chunks_is_refused() -> None:
    with pytest.raises(BodyTooLarge):
        BodyReader().read(environ(io.BytesIO(b"123456")), limit_bytes=5, length=None)


@pytest.mark.parametrize("stream", [io.BytesIO(b"123"), Broken()])
def test_read_body_that_breaks_off_is_incomplete(stream: Any) -> None:
    with pytest.raises(IncompleteBody):
        BodyReader().read(environ(stream), limit_bytes=10, length=5)


def test_read_stalled_body_ends_in_time_and_holds_up_nobody_else() -> None:
    stalled = Stalled()
    reader = BodyReader(timeout_s=0.05)
    with pytest.raises(IncompleteBody):
        reader.read(environ(stalled), limit_bytes=10, length=5)
    assert reader.read(environ(io.BytesIO(b"12345")), limit_bytes=10, length=5) == b"12345"
    stalled.gone.set()


def test_read_where_bodies_come_thick_and_fast_uses_no_thread() -> None:
    reader = BodyReader()
    before = threading.active_count()
    for _ in range(50):
        reader._last_at = time.monotonic()
        assert reader.read(environ(io.BytesIO(b"12345")), limit_bytes=10, length=5) == b"12345"
    with pytest.raises(IncompleteBody):
        reader.read(environ(Broken()), limit_bytes=10, length=5)
    assert threading.active_count() == before


def test_read_uses_few_threads_one_after_the_other() -> None:
    reader = BodyReader()
    before = threading.active_count()
    for _ in range(50):
        reader._last_at = 0.0
        reader.read(environ(io.BytesIO(b"12345")), limit_bytes=10, length=5)
    assert threading.active_count() - before <= 2
