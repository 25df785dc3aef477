"""Engines and transactions: the only place that commits.

``unit_of_work`` is a transaction of several statements; ``statement`` is for exactly one, which is its own transaction and
costs one round trip in place of three.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import QueryCanceledError
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

LOCK_TIMEOUT_MS = 2_000  # DESIGN: no request waits longer for a row
IDLE_IN_TRANSACTION_MS = 10_000  # a transaction that forgot itself holds back vacuum
CONNECT_TIMEOUT_S = 3


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
    return create_engine(
        sqlalchemy_url(database_url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=2.0,
        pool_recycle=1_800,
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
    )


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Connection]:
    """A transaction: committed at the end, rolled back on an exception.

    Raises:
        DatabaseAway: the database is away, restarting, full or read-only; whether a commit happened may be unknown.
        LockedRow: a row stayed locked for over two seconds.
    """
    with _mapped_errors(), engine.begin() as connection:
        yield connection


@contextmanager
def statement(engine: Engine) -> Iterator[Connection]:
    """A connection whose every statement is its own transaction; use it for one statement.

    Raises:
        DatabaseAway: as ``unit_of_work``.
        LockedRow: as ``unit_of_work``.
    """
    with _mapped_errors(), engine.connect() as connection:
        # SQLAlchemy's own isolation_level="AUTOCOMMIT" costs another round trip each time (SET default_transaction_isolation, sent
        # by psycopg2 when the level is reset). The driver's attribute is a flag on this side.
        driver: Any = connection.connection.driver_connection
        driver.autocommit = True
        try:
            yield connection
        finally:
            if not driver.closed:
                driver.autocommit = False


@contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseAway("no connection became free within 2 s") from error
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if code == _LOCK_NOT_AVAILABLE:
            raise LockedRow("a row is locked") from error
        passing = code.startswith(_PASSING) if code else isinstance(error, OperationalError | InterfaceError)
        if passing or error.connection_invalidated or isinstance(error.orig, QueryCanceledError):
            raise DatabaseAway(str(error.orig).strip() or type(error.orig).__name__) from error
        raise
