"""Connections that stay with whoever needs them all day: to take one from the pool and give it back costs more than a small statement."""

import select
import threading
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, Pool, QueuePool


class Kept:
    """Connections of one engine's pool that wait for the next statement: autocommitting, in no transaction, and alive as far as this side knows.

    Args:
        most: how many at once.
        recycle_s: what was taken from the pool so long ago goes; in the pool it may have been as long.
    """

    def __init__(self, most: int, *, recycle_s: float) -> None:
        self._most = most
        self._recycle_s = recycle_s
        self._lock = threading.Lock()
        self._waiting: list[Taken] = []
        self._wanted = 0  # connections that threads are about to take from the pool, or wait for there

    def take(self) -> "Taken | None":
        """One that is kept; what the server has closed, or what is old, goes."""
        while (taken := self._pop()) is not None:
            if _is_quiet(taken.driver) and time.monotonic() - taken.since < self._recycle_s:
                return taken
            taken.drop()
        return None

    def keep(self, taken: "Taken") -> bool:
        """Whether there is room for it: not where the pool has none left for those who wait there."""
        engine = taken.connection.engine
        if taken.connection.in_transaction():  # what SQLAlchemy began on its side alone
            taken.connection.rollback()
        with self._lock:
            if len(self._waiting) >= self._most or taken.pool is not engine.pool or self._are_short(engine):
                return False
            self._waiting.append(taken)
        return True

    def connect(self, engine: Engine) -> Connection:
        """One from the pool; gives the pool a kept one where it has none left."""
        with self._lock:
            self._wanted += 1
            spare = self._waiting.pop() if self._waiting and self._are_short(engine) else None
        try:
            if spare is not None:
                spare.give_back()
            return engine.connect()
        finally:
            with self._lock:
                self._wanted -= 1

    def close(self) -> None:
        """Closes them all."""
        while (taken := self._pop()) is not None:
            taken.drop()

    def _pop(self) -> "Taken | None":
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def _are_short(self, engine: Engine) -> bool:
        """Whether more connections are wanted than the pool has left."""
        pool = engine.pool
        assert isinstance(pool, QueuePool)
        return pool.checkedout() + self._wanted > pool.size()


@dataclass(slots=True)
class Taken:
    """A connection that autocommits, its driver's, the pool that it came from, and when."""

    connection: Connection
    driver: Any
    pool: Pool
    since: float

    def give_back(self) -> None:
        """To the pool, as it came; it closes with a pool that was disposed of meanwhile."""
        if self.pool is not self.connection.engine.pool:
            self.connection.invalidate()
        elif not self.driver.closed:
            self.driver.autocommit = False
        self.connection.close()

    def drop(self) -> None:
        """Closes it; the pool may make another."""
        self.connection.invalidate()
        self.connection.close()


def refuse_closed(driver: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Has the pool connect anew, and doubt all that it holds, where the server has gone: no request is to find out by failing."""
    if not record.info.get("used"):
        record.info["used"] = True  # a new one is never refused, whatever a pooler may say on it
    elif not _is_quiet(driver):
        raise InvalidatePoolError("the server has closed the connection")


def _is_quiet(driver: Any) -> bool:
    """Whether there is nothing to read: between two statements a server speaks to say that it goes, and of settings that were changed under it."""
    if driver.closed:
        return False
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return not poll.poll(0)
