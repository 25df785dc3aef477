"""Engines and transactions: the only place that commits.

``unit_of_work`` is a transaction of several statements; ``statement`` is for exactly one, which is its own transaction and
costs one round trip in place of three.
"""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from psycopg2.extensions import QueryCanceledError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, Pool, QueuePool

LOCK_TIMEOUT_MS = 2_000  # DESIGN: no request waits longer for a row
IDLE_IN_TRANSACTION_MS = 10_000  # a transaction that forgot itself holds back vacuum
CONNECT_TIMEOUT_S = 3
RECYCLE_S = 1_800  # the pool's, and of what is kept as long again
KEPT_OF_POOL = 3  # one connection in so many may stay with `statement` between two uses
_KEPT = "millpond_kept"


class DatabaseAway(Exception):
    """The database did not answer, or refused for a reason that passes; the statement may or may not have happened."""


class LockedRow(Exception):
    """A row was locked by another transaction for over two seconds."""


_PASSING = ("08", "53", "57", "25006", "40")  # connection, resources, operator intervention, read-only, serialization and deadlock
_LOCK_NOT_AVAILABLE = "55P03"


def sqlalchemy_url(database_url: str) -> str:
    """The URL with the driver that this project uses."""
    scheme, separator, rest = database_url.partition("://")
    return f"postgresql+psycopg2{separator}{rest}" if scheme in {"postgresql", "postgres"} else database_url


def make_engine(database_url: str, *, pool_size: int, statement_timeout_s: float = 30.0, application_name: str = "millpond") -> Engine:
    """A pool of at most ``pool_size`` connections; waiting for one gives up after 2 s.

    A third of them at most, rounded down, stays with ``statement`` once it has used them, as long as nobody wants for one: to take one from the pool
    and give it back costs more than a small statement, 0.2 ms of a process that was asleep. None is used that the server has been seen to close.

    Args:
        database_url: ``postgresql://…``.
        pool_size: connections kept and allowed.
        statement_timeout_s: a statement that runs longer is ended by the server.
        application_name: how the server's ``pg_stat_activity`` shows it.
    """
    options = (
        f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={int(statement_timeout_s * 1000)}"
        f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS} -c timezone=UTC -c jit=off"
        " -c enable_seqscan=off"  # a prepared plan that was made while a table was small would read all of it ever after
    )
    kept = _Kept(pool_size // KEPT_OF_POOL)
    engine = create_engine(
        sqlalchemy_url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=2.0,
        pool_recycle=RECYCLE_S,
        pool_use_lifo=True,
        hide_parameters=True,  # an error must not carry inputs into logs
        connect_args={
            "options": options,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": application_name,
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
        execution_options={_KEPT: kept},
    )
    event.listen(engine, "engine_disposed", lambda _: kept.close())
    event.listen(engine, "checkout", _refuse_closed)
    return engine


class _Kept:
    """Connections that wait for the next ``statement``: autocommitting, in no transaction, and alive as far as this side knows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Taken] = []
        self._wanted = 0  # connections that threads are about to take from the pool, or wait for there

    def take(self) -> "_Taken | None":
        """One that is kept; what the server has closed, or what is old, goes."""
        while (taken := self._pop()) is not None:
            if _is_quiet(taken.driver) and time.monotonic() - taken.since < RECYCLE_S:
                return taken
            taken.drop()
        return None

    def keep(self, taken: "_Taken") -> bool:
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
        """One from the pool; gives it a kept one where it has none left.

        Raises:
            DatabaseAway: as ``unit_of_work``.
        """
        with self._lock:
            self._wanted += 1
            spare = self._waiting.pop() if self._waiting and self._are_short(engine) else None
        try:
            if spare is not None:
                spare.give_back()
            with _mapped_errors():
                return engine.connect()
        finally:
            with self._lock:
                self._wanted -= 1

    def close(self) -> None:
        """Closes them all."""
        while (taken := self._pop()) is not None:
            taken.drop()

    def _pop(self) -> "_Taken | None":
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def _are_short(self, engine: Engine) -> bool:
        """Whether more connections are wanted than the pool has left."""
        pool = engine.pool
        assert isinstance(pool, QueuePool)
        return pool.checkedout() + self._wanted > pool.size()


@dataclass(slots=True)
class _Taken:
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


def _refuse_closed(driver: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
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


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Connection]:
    """A transaction: committed at the end, rolled back on an exception.

    Raises:
        DatabaseAway: the database is away, restarting, full or read-only; whether a commit happened may be unknown.
        LockedRow: a row stayed locked for over two seconds.
    """
    with _mapped_errors(), _kept_of(engine).connect(engine) as connection, connection.begin():
        yield connection


class _Statement:
    """What ``statement`` gives."""

    __slots__ = ("_engine", "_kept", "_taken")
    _taken: _Taken

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept = _kept_of(engine)

    def __enter__(self) -> Connection:
        self._taken = self._kept.take() or self._take()
        return self._taken.connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        if error is None:
            if not self._kept.keep(self._taken):
                self._taken.give_back()
            return False
        self._taken.give_back()
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            self._kept.close()  # as the pool does with its own
        if (mapped := _mapped(error)) is not None:
            raise mapped from error
        return False

    def _take(self) -> _Taken:
        connection = self._kept.connect(self._engine)
        # SQLAlchemy's own isolation_level="AUTOCOMMIT" costs another round trip each time (SET default_transaction_isolation, sent
        # by psycopg2 when the level is reset). The driver's attribute is a flag on this side.
        driver: Any = connection.connection.driver_connection
        driver.autocommit = True
        return _Taken(connection, driver, self._engine.pool, time.monotonic())


def _kept_of(engine: Engine) -> _Kept:
    kept = engine.get_execution_options()[_KEPT]
    assert isinstance(kept, _Kept)
    return kept


def statement(engine: Engine) -> AbstractContextManager[Connection]:
    """A connection whose every statement is its own transaction; use it for one statement.

    Raises:
        DatabaseAway: as ``unit_of_work``.
        LockedRow: as ``unit_of_work``.
    """
    return _Statement(engine)


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if (mapped := _mapped(error)) is None:
            raise
        raise mapped from error


def _mapped(error: BaseException) -> DatabaseAway | LockedRow | None:
    """What an error of the database means; None where it is to be seen as it is."""
    if isinstance(error, PoolTimeout):
        return DatabaseAway("no connection became free within 2 s")
    if not isinstance(error, DBAPIError):
        return None
    code = getattr(error.orig, "pgcode", None)
    if code == _LOCK_NOT_AVAILABLE:
        return LockedRow("a row is locked")
    passing = code.startswith(_PASSING) if code else isinstance(error, OperationalError | InterfaceError)
    if passing or error.connection_invalidated or isinstance(error.orig, QueryCanceledError):
        return DatabaseAway(str(error.orig).strip() or type(error.orig).__name__)
    return None
