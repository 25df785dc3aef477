"""Whether the whole queue is full, known without counting it at every submit."""

import threading
import time
from collections.abc import Callable

from models.transactions import DatabaseAway, LockedRow

FASTEST_PER_S = 10_000.0  # no installation takes jobs faster than this, all its processes together
SOONEST_S = 1.0
LATEST_S = 30.0


class QueueDepth:
    """Counts the queued jobs as seldom as can be: the further away the limit is, the longer a count is believed.

    Args:
        count: how many jobs are queued, counted up to its argument.
        most: the limit.
        clock: seconds, monotonic.
    """

    def __init__(self, count: Callable[[int], int], *, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._most = most
        self._clock = clock
        self._counting = threading.Lock()
        self._full = False
        self._believed_until = 0.0

    def is_full(self) -> bool:
        """Whether a submit must be refused; one request counts, others go by the last count meanwhile."""
        if self._clock() >= self._believed_until and self._counting.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._counting.release()
        return self._full

    def _look(self) -> None:
        try:
            queued = self._count(self._most)
        except (DatabaseAway, LockedRow):
            return  # the submit itself will say so
        self._full = queued >= self._most
        self._believed_until = self._clock() + min(LATEST_S, max(SOONEST_S, (self._most - queued) / FASTEST_PER_S))
