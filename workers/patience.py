"""Waiting for a database that is away."""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Connection, Engine

from models.transactions import DatabaseAway, LockedRow, statement

RECORD_FOR_S = 60.0  # how long a result waits for a database that is away; the lease ends before, the fence decides
Within = Callable[[Engine], AbstractContextManager[Connection]]
T = TypeVar("T")


def patiently(engine: Engine, operation: Callable[[Connection], T], *, patience_s: float = RECORD_FOR_S, within: Within = statement) -> T:
    """Runs one statement, or a unit of work, again and again while the database is away; it must be safe to run again.

    Raises:
        DatabaseAway: for longer than ``patience_s``.
        LockedRow: the same.
    """
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            with within(engine) as connection:
                return operation(connection)
        except (DatabaseAway, LockedRow):
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.2 + random.random() * 0.3)  # noqa: S311 - spreads retries, guards nothing
