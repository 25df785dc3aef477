"""Engines and transactions: the only place that commits.

``unit_of_work`` is a transaction of several statements; ``statement`` is for exactly one, which is its own transaction and
costs one round trip in place of three.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal
from uuid import UUID

from psycopg2.extensions import QueryCanceledError, new_type, register_type
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.kept import Kept, Taken, refuse_closed

LOCK_TIMEOUT_MS = 2_000  # DESIGN: no request waits longer for a row
IDLE_IN_TRANSACTION_MS = 10_000  # a transaction that forgot itself holds back vacuum
CONNECT_TIMEOUT_S = 3
RECYCLE_S = 1_800
KEPT_OF_POOL = 3  # one connection in so many may stay with `statement` between two uses
_KEPT = "millpond_kept"
_UUID_OID = 2_950
_uuid_of = lru_cache(maxsize=4_096)(UUID)  # a job's id is read at its claim and at its end, its tenant's with every job
_UUIDS = new_type((_UUID_OID,), "UUID", lambda text, _: None if text is None else _uuid_of(text))


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


def make_engine(database_url: str, *, pool_size: int, statement_timeout_s: float = 30.0, application_name: str = "millpond", one_plan: bool = False) -> Engine:
    """A pool of at most ``pool_size`` connections; waiting for one gives up after 2 s.

    A third of them at most, rounded down, stays with ``statement`` once it has used them, as long as nobody wants for one: to take one from the pool
    and give it back costs more than a small statement, 0.2 ms of a process that was asleep. None is used that the server has been seen to close.

    Args:
        database_url: ``postgresql://…``.
        pool_size: connections kept and allowed.
        statement_timeout_s: a statement that runs longer is ended by the server.
        application_name: how the server's ``pg_stat_activity`` shows it.
        one_plan: whether a prepared statement is planned once, for any parameters, in place of five times for those at hand first.
    """
    options = (
        f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={int(statement_timeout_s * 1000)}"
        f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS} -c timezone=UTC -c jit=off"
        " -c enable_seqscan=off"  # a prepared plan that was made while a table was small would read all of it ever after
        f"{' -c plan_cache_mode=force_generic_plan' if one_plan else ''}"
    )
    kept = Kept(pool_size // KEPT_OF_POOL, recycle_s=RECYCLE_S)
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
    event.listen(engine, "checkout", refuse_closed)
    event.listen(engine, "connect", lambda connection, _: register_type(_UUIDS, connection))
    return engine


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
    _taken: Taken

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

    def _take(self) -> Taken:
        with _mapped_errors():
            connection = self._kept.connect(self._engine)
        # SQLAlchemy's own isolation_level="AUTOCOMMIT" costs another round trip each time (SET default_transaction_isolation, sent
        # by psycopg2 when the level is reset). The driver's attribute is a flag on this side.
        driver: Any = connection.connection.driver_connection
        driver.autocommit = True
        return Taken(connection, driver, self._engine.pool, time.monotonic())


def _kept_of(engine: Engine) -> Kept:
    kept = engine.get_execution_options()[_KEPT]
    assert isinstance(kept, Kept)
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
