"""Reads the bodies of requests, within a size, and so many at once that other requests find a thread.

The server hands a body over by a call that waits for the client, for as long as the client likes. Another thread cannot make it: when
a request is answered while the call lasts, the server waits for its end and lets no other thread run (granian 2.8.7). So each request
reads its own body, and ``api/silence.py`` ends the call where the client has fallen silent.
"""

import threading
import time
from collections.abc import Iterator
from typing import IO, Any

from api.in_hand import InHand
from domain.errors import BodyTooLarge, IncompleteBody, Overloaded

PLACE_S = 0.25  # a request waits so long for its turn to read
RETRY_S = 5.0


class BodyReader:
    """Reads bodies.

    Args:
        threads: requests that are served at once. One in six may read: with the three quarters that may be held waits, some threads are left.
        in_hand: is told which requests still read.
    """

    def __init__(self, *, threads: int, in_hand: InHand) -> None:
        self._in_hand = in_hand
        self._places = threading.Semaphore(max(2, threads // 6))

    def read(self, environ: dict[str, Any], *, limit_bytes: int, length: int | None) -> bytes:
        """A request's body, whole.

        Args:
            environ: the WSGI environment.
            limit_bytes: the most it may have.
            length: its Content-Length; None where it comes in chunks, or where there is none.

        Raises:
            BodyTooLarge: it is over the limit; where Content-Length says so, nothing is read.
            IncompleteBody: it is shorter than its Content-Length.
            Overloaded: as many bodies as may be are slow to come; nothing is read.
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
            total_s: the whole must come in this time.

        Raises:
            BodyTooLarge, IncompleteBody, Overloaded: as ``read``.
        """
        if _is_empty(environ, limit_bytes, length):
            return
        until, read = time.monotonic() + total_s, 0
        while read != length:
            piece = self._read(environ["wsgi.input"], piece_bytes if length is None else min(piece_bytes, length - read))
            if not piece:
                break
            read += len(piece)
            if read > limit_bytes:
                raise _too_large(limit_bytes)
            if time.monotonic() > until:
                raise IncompleteBody(f"The body did not come within {total_s:.0f} s.")
            yield piece
        if length is not None and read < length:
            raise IncompleteBody

    def _read(self, stream: IO[bytes], size: int) -> bytes:
        if not self._places.acquire(timeout=PLACE_S):
            raise Overloaded("As many bodies as may be are slow to come; ask again later.", retry_after_s=RETRY_S)
        try:
            with self._in_hand.reading():
                return stream.read(size)
        except Exception as error:  # whatever the server's stream raises, the body did not come
            raise IncompleteBody from error
        finally:
            self._places.release()


def _is_empty(environ: dict[str, Any], limit_bytes: int, length: int | None) -> bool:
    if length is not None and length > limit_bytes:
        raise _too_large(limit_bytes)
    return length == 0 or (length is None and not environ.get("wsgi.input_terminated"))


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over {limit_bytes} bytes.")
