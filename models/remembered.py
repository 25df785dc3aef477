"""Answers that cost something and may be a moment old: asked for once, however many want them."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """A value that is loaded again when it is older than ``ttl_s``; threads that come meanwhile wait for one load.

    A load that raises is not remembered.
    """

    def __init__(self, load: Callable[[], Value], *, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[float, Value] | None = None

    def __call__(self) -> Value:
        """The value, at most ``ttl_s`` old when this was called."""
        wanted = self._clock()
        with self._lock:
            if self._known is None or self._known[0] <= wanted:
                value = self._load()
                self._known = (self._clock() + self._ttl_s, value)
            return self._known[1]
