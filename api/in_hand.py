"""Which requests this process has in hand, and which of them still read their body: how long a silent client may be waiting for us, or we for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class InHand:
    """Since when each thread has had its request, one request a thread. As long as it reads its body, a request is not in hand."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._reading_since: dict[int, float] = {}

    @contextmanager
    def taken(self) -> Iterator[None]:
        """A request is in hand for the length of the ``with`` block."""
        thread = threading.get_ident()
        self._since[thread] = time.monotonic()
        try:
            yield
        finally:
            self._since.pop(thread, None)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Its client has more to say for the length of the ``with`` block; afterwards the request is in hand since it was taken."""
        thread = threading.get_ident()
        since = self._since.pop(thread, None)
        self._reading_since[thread] = time.monotonic()
        try:
            yield
        finally:
            del self._reading_since[thread]
            if since is not None:
                self._since[thread] = since

    def longest_s(self) -> float:
        """How long the oldest request has been in hand; 0 when none is."""
        return _age(self._since)

    def longest_read_s(self) -> float:
        """How long the oldest read has waited for its client; 0 when none does."""
        return _age(self._reading_since)


def _age(since: dict[int, float]) -> float:
    moments = list(since.values())
    return time.monotonic() - min(moments) if moments else 0.0
