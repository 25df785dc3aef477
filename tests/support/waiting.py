"""Waiting for something to become true."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], deadline_s: float = 10.0, *, what: str = "", every_s: float = 0.02) -> T:
    """The first true value that ``predicate`` returns.

    Args:
        predicate: asked every ``every_s`` seconds, and once more when the deadline has passed.
        deadline_s: how long to ask.
        what: what is waited for, for the message.

    Raises:
        TimeoutError: it stayed false.
    """
    end = time.monotonic() + deadline_s
    while True:
        late = time.monotonic() >= end
        value = predicate()
        if value:
            return value
        if late:
            raise TimeoutError(f"{what or getattr(predicate, '__name__', predicate)}: not true within {deadline_s} s; last seen: {value!r}")
        time.sleep(every_s)
