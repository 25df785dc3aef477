"""A database and a virtual host for each measurement, on servers that run already."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql

from benchmarks.harness.load import BenchmarkFailed

NAME = f"mp_bench_{os.getpid()}"  # of every database and virtual host that is made here; two runs do not meet


@dataclass(frozen=True, slots=True)
class Servers:
    """PostgreSQL and RabbitMQ."""

    database_url: str
    broker_url: str

    def described(self) -> str:
        """What they are, and whether what is committed is on disk.

        Raises:
            BenchmarkFailed: one does not answer, or ``fsync`` is off.
        """
        try:
            with closing(psycopg2.connect(self.database_url, connect_timeout=3)) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')")
                version, fsync, synchronous = _one(cursor.fetchone())
        except psycopg2.OperationalError as error:
            raise BenchmarkFailed(f"PostgreSQL does not answer at {self.database_url}: {str(error).strip()}") from error
        if (fsync, synchronous) != ("on", "on"):
            raise BenchmarkFailed(f"fsync is {fsync}, synchronous_commit is {synchronous}: figures without them say nothing")
        return f"PostgreSQL {version.split()[0]} (fsync on), RabbitMQ {rabbitmqctl('version').strip()}"

    @contextmanager
    def database(self, suffix: str) -> Iterator[str]:
        """The URL of an empty database; dropped before and after, whoever is connected."""
        name = f"{NAME}_{suffix}"
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(self.database_url)._replace(path=f"/{name}"))
        finally:
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def vhost(self) -> Iterator[str]:
        """The URL of an empty virtual host."""
        user = urlsplit(self.broker_url).username or "guest"
        _delete_vhost()
        rabbitmqctl("add_vhost", NAME)
        rabbitmqctl("set_permissions", "-p", NAME, user, ".*", ".*", ".*")
        try:
            yield urlunsplit(urlsplit(self.broker_url)._replace(path="/" + quote(NAME, safe="")))
        finally:
            _delete_vhost()

    def _execute(self, statement: sql.Composed) -> None:
        with closing(psycopg2.connect(self.database_url, connect_timeout=3)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(statement)


class Database:
    """One autocommitting connection to a database that is measured; looks seldom and cheaply."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True

    def row(self, query: str, values: Mapping[str, object] | None = None) -> tuple[Any, ...]:
        """The first row."""
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            return _one(cursor.fetchone())

    def rows(self, query: str, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """All rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall()

    def execute(self, statement: str, values: Mapping[str, object] | None = None) -> None:
        """Runs a statement that gives no rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)

    def vacuum(self) -> None:
        """What autovacuum would have done in the long run; it is off on some machines, and both stacks get the same."""
        self.execute("VACUUM (ANALYZE)")

    def wait_for(self, query: str, *, within_s: float, alive: Callable[[], None], every_s: float = 0.1) -> None:
        """Waits until a query's first value is true.

        Args:
            query: looked at every ``every_s`` seconds.
            within_s: how long at most.
            alive: raises when what should make it true has ended.
            every_s: how often.

        Raises:
            BenchmarkFailed: it stays false.
        """
        give_up_at = time.monotonic() + within_s
        while not self.row(query)[0]:
            alive()
            if time.monotonic() > give_up_at:
                raise BenchmarkFailed(f"still not true after {within_s:g} s: {query}")
            time.sleep(every_s)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rabbitmqctl(*arguments: str) -> str:
    """Runs ``rabbitmqctl``; returns what it prints.

    Raises:
        BenchmarkFailed: it is not there, or failed.
    """
    try:
        done = subprocess.run(["rabbitmqctl", "-q", *arguments], capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise BenchmarkFailed(f"rabbitmqctl: {error}") from error
    if done.returncode:
        raise BenchmarkFailed(f"rabbitmqctl {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _delete_vhost() -> None:
    if NAME in rabbitmqctl("list_vhosts").split():
        rabbitmqctl("delete_vhost", NAME)


def _one(row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    if row is None:
        raise BenchmarkFailed("a query gave no row")
    return row
