"""Reads the bodies of requests, within a size and a time.

The server hands a body over by a call that waits for the client, for as long as the client likes, and cannot be interrupted. So a
thread of this module makes that call and the request waits for it with a time limit. Handing over takes 150 µs of CPU, a tenth of
a submit, so it is left out where bodies come thick and fast: there, a client that stalls holds one thread until it goes away.
"""

import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import IO, Any

from domain.errors import BodyTooLarge, IncompleteBody

BODY_TIMEOUT_S = 20.0
THICK_AND_FAST_S = 0.02  # since the body before; under load they come in bursts, as groups of submits end together


class BodyReader:
    """Reads bodies in threads of its own: as many as bodies were ever read at once."""

    def __init__(self, *, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._idle: list[_Thread] = []
        self._last_at = 0.0

    def read(self, environ: dict[str, Any], *, limit_bytes: int, length: int | None) -> bytes:
        """A request's body, whole.

        Args:
            environ: the WSGI environment.
            limit_bytes: the most it may have.
            length: its Content-Length; None where it comes in chunks, or where there is none.

        Raises:
            BodyTooLarge: it is over the limit; where Content-Length says so, nothing is read.
            IncompleteBody: it is shorter than its Content-Length, or did not come in time.
        """
        if _is_empty(environ, limit_bytes, length):
            return b""
        body = self._read(environ["wsgi.input"], limit_bytes + 1 if length is None else length)
        if length is None and len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        if length is not None and len(body) < length:
            raise IncompleteBody
        return body

    def pieces(self, environ: dict[str, Any], *, limit_bytes: int, length: int | None, piece_bytes: int, total_s: float) -> Iterator[bytes]:
        """A request's body as it comes, a piece in memory at a time.

        Args:
            environ: as in ``read``.
            limit_bytes: as in ``read``.
            length: as in ``read``.
            piece_bytes: the most of one piece.
            total_s: the whole must come in this time, and each piece in that of ``read``.

        Raises:
            BodyTooLarge, IncompleteBody: as ``read``.
        """
        if _is_empty(environ, limit_bytes, length):
            return
        until, read = time.monotonic() + total_s, 0
        while read != length:
            wanted = piece_bytes if length is None else min(piece_bytes, length - read)
            piece = self._read_within(_Reading(environ["wsgi.input"], wanted), min(self._timeout_s, until - time.monotonic()))
            if not piece:
                break
            read += len(piece)
            if read > limit_bytes:
                raise _too_large(limit_bytes)
            yield piece
        if length is not None and read < length:
            raise IncompleteBody

    def _read(self, stream: IO[bytes], size: int) -> bytes:
        now, before = time.monotonic(), self._last_at
        self._last_at = now
        reading = _Reading(stream, size)
        if now - before >= THICK_AND_FAST_S:
            return self._read_within(reading, self._timeout_s)
        reading.run()
        return reading.result()

    def _read_within(self, reading: "_Reading", timeout_s: float) -> bytes:
        try:
            thread = self._idle.pop()
        except IndexError:
            thread = _Thread(self._idle)
        thread.take(reading)
        if not reading.done.acquire(timeout=max(0.0, timeout_s)):
            raise IncompleteBody(f"The body did not come within {max(0.0, timeout_s):.0f} s.")
        return reading.result()


def _is_empty(environ: dict[str, Any], limit_bytes: int, length: int | None) -> bool:
    if length is not None and length > limit_bytes:
        raise _too_large(limit_bytes)
    return length == 0 or (length is None and not environ.get("wsgi.input_terminated"))


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over {limit_bytes} bytes.")


class _Reading:
    """One body that is being read."""

    __slots__ = ("_size", "_stream", "body", "done")

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._size = size
        self.body: bytes | Exception = b""
        self.done = threading.Lock()  # held until it was read; an Event costs 5 µs to make, and most bodies need none
        self.done.acquire()

    def run(self) -> None:
        """Reads, however long it takes."""
        try:
            self.body = self._stream.read(self._size)
        except Exception as error:  # noqa: BLE001 - whatever the server's stream raises, the body did not come
            self.body = error

    def result(self) -> bytes:
        """What was read.

        Raises:
            IncompleteBody: reading failed.
        """
        if isinstance(self.body, Exception):
            raise IncompleteBody from self.body
        return self.body


class _Thread:
    """A thread that reads one body at a time; ``idle`` is where it waits to be taken from (a list's own operations are atomic)."""

    def __init__(self, idle: list["_Thread"]) -> None:
        self._idle = idle
        self._given: SimpleQueue[_Reading] = SimpleQueue()
        threading.Thread(target=self._run, name="body", daemon=True).start()

    def take(self, reading: _Reading) -> None:
        """Reads this one next."""
        self._given.put(reading)

    def _run(self) -> None:
        while True:
            reading = self._given.get()
            reading.run()
            self._idle.append(self)
            reading.done.release()
