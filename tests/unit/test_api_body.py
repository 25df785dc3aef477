import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.body import BodyReader
from api.in_hand import InHand
from domain.errors import BodyTooLarge, IncompleteBody, Overloaded
from tests.support.waiting import wait_until


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


def reader_of(threads: int) -> BodyReader:
    return BodyReader(threads=threads, in_hand=InHand())


def environ(stream: Any, *, terminated: bool = True) -> dict[str, Any]:
    return {"wsgi.input": stream, **({"wsgi.input_terminated": True} if terminated else {})}


def test_read_gives_the_body_by_length_and_in_chunks() -> None:
    reader = reader_of(40)
    assert reader.read(environ(io.BytesIO(b"12345")), limit_bytes=5, length=5) == b"12345"
    assert reader.read(environ(io.BytesIO(b"12345")), limit_bytes=5, length=None) == b"12345"
    assert reader.read(environ(io.BytesIO(b"12345678")), limit_bytes=9, length=5) == b"12345"


def test_read_without_length_or_terminated_input_is_empty() -> None:
    assert reader_of(40).read(environ(Stalled(), terminated=False), limit_bytes=5, length=None) == b""
    assert reader_of(40).read(environ(Stalled()), limit_bytes=5, length=0) == b""


def test_read_over_the_limit_by_length_reads_nothing() -> None:
    stalled = Stalled()
    with pytest.raises(BodyTooLarge):
        reader_of(40).read(environ(stalled), limit_bytes=5, length=6)
    assert stalled.reads == 0


def test_read_over_the_limit_in_chunks_is_refused() -> None:
    with pytest.raises(BodyTooLarge):
        reader_of(40).read(environ(io.BytesIO(b"123456")), limit_bytes=5, length=None)


@pytest.mark.parametrize("stream", [io.BytesIO(b"123"), Broken()])
def test_read_body_that_breaks_off_is_incomplete(stream: Any) -> None:
    with pytest.raises(IncompleteBody):
        reader_of(40).read(environ(stream), limit_bytes=10, length=5)


def test_read_while_as_many_bodies_stall_as_may_refuses_the_next_unread() -> None:
    reader, stalled, next_one = reader_of(12), [Stalled(), Stalled()], Stalled()
    with ThreadPoolExecutor(len(stalled)) as pool:
        reads = [pool.submit(reader.read, environ(stream), limit_bytes=10, length=5) for stream in stalled]
        wait_until(lambda: all(stream.reads for stream in stalled))
        with pytest.raises(Overloaded):
            reader.read(environ(next_one), limit_bytes=10, length=5)
        assert next_one.reads == 0
        for stream in stalled:
            stream.gone.set()
        assert [type(each.exception()) for each in reads] == [IncompleteBody] * 2
    assert reader.read(environ(io.BytesIO(b"12345")), limit_bytes=10, length=5) == b"12345"


def test_read_that_fails_gives_its_place_back() -> None:
    reader = reader_of(1)
    for _ in range(2):
        with pytest.raises(IncompleteBody):
            reader.read(environ(Broken()), limit_bytes=10, length=5)


def test_pieces_that_come_too_slowly_are_incomplete() -> None:
    pieces = reader_of(1).pieces(environ(io.BytesIO(b"12345678")), limit_bytes=10, length=8, piece_bytes=2, total_s=-1.0)
    with pytest.raises(IncompleteBody):
        next(pieces)
