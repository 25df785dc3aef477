"""Which requests this process has in hand: their client has said all it has to say, and waits."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class InHand:
    """Since when each thread has had its request; one request a thread. A request whose body is still being read is not in hand."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

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
        """Its client still speaks for the length of the ``with`` block; afterwards it counts as in hand since it was taken."""
        thread = threading.get_ident()
        since = self._since.pop(thread, None)
        try:
            yield
        finally:
            if since is not None:
                self._since[thread] = since

    def longest_s(self) -> float:
        """How long the oldest request has been in hand; 0 when none is."""
        since = list(self._since.values())
        return time.monotonic() - min(since) if since else 0.0
