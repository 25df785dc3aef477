"""Fresh, migrated PostgreSQL databases: migrated once into a template, copied for a test, and emptied for the next one.

A copy costs 300 ms and more where ``fsync`` is slow; emptying the tables that a test has filled, a tenth of that.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg2
from psycopg2 import sql

from models.migrate import upgrade
from tests.support.waiting import wait_until

_SHAPE = """
    SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
        SELECT indexdef AS line FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT concat(conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT concat(tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT concat(proname, prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT concat(attrelid::regclass, attname, atttypid, attnotnull) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
                  WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
        UNION ALL SELECT version_num FROM alembic_version
        UNION ALL SELECT setting FROM pg_database JOIN pg_db_role_setting ON setdatabase = pg_database.oid, unnest(setconfig) AS setting
                  WHERE datname = current_database()
    ) AS shape
"""
_OURS = re.compile(r"millpond_test_(\d+)_")


class Databases:
    """Databases of one server for one test session; their names carry the process id, so that leftovers are known as such."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self._numbers = count(1)
        self._template: str | None = None
        self._shape = ""
        self._empty: list[str] = []
        self._cleaners: dict[str, psycopg2.extensions.connection] = {}  # kept: what a connection learns of the tables costs more than to empty them

    @contextmanager
    def fresh(self, *, migrated: bool = True) -> Iterator[str]:
        """The URL of a database of its own; afterwards it is emptied or dropped, whoever is still connected."""
        name = (self._empty.pop() if self._empty else self._create(self._migrated_template())) if migrated else self._create("template1")
        try:
            yield self._url(name)
        finally:
            if migrated and self._emptied(name):
                self._empty.append(name)
            else:
                self._drop(name)

    def _emptied(self, name: str) -> bool:
        """Makes a database as it was before its test; false where the test changed more than rows."""
        with self._cleaner(name).cursor() as cursor:
            _wait_for_others(cursor, name)
            try:
                cursor.execute(_SHAPE)
            except psycopg2.errors.UndefinedTable:
                return False
            if cursor.fetchone() != (self._shape,):
                return False
            # what refers to another table comes first
            cursor.execute(
                "SELECT relname, pg_table_size(oid) > 1000000 FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
                "AND relname <> 'alembic_version' ORDER BY (SELECT count(*) FROM pg_constraint WHERE conrelid = pg_class.oid AND contype = 'f') DESC"
            )
            # to truncate costs new files, and waits for the disk
            clear = [sql.SQL("TRUNCATE {} CASCADE" if large else "DELETE FROM {}").format(sql.Identifier(table)) for table, large in cursor.fetchall()]
            cursor.execute(sql.SQL("; ").join(clear))
        return True

    def _cleaner(self, name: str) -> psycopg2.extensions.connection:
        """A connection to a database that is not its test's; a new one where the test has ended all that there were."""
        with suppress(KeyError, psycopg2.OperationalError, psycopg2.InterfaceError), self._cleaners[name].cursor() as cursor:
            cursor.execute("SELECT 1")
            return self._cleaners[name]
        self._cleaners[name] = psycopg2.connect(self._url(name), connect_timeout=3, options="-c synchronous_commit=off")
        self._cleaners[name].autocommit = True
        return self._cleaners[name]

    def drop_leftovers(self) -> None:
        """Drops the databases of this session, and of test sessions that died."""
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            names = [name for (name,) in cursor.fetchall()]
        for name in names:
            match = _OURS.match(name)
            if match and (int(match[1]) == os.getpid() or not psutil.pid_exists(int(match[1]))):
                self._drop(name)
        self._template = None
        self._empty.clear()

    def _migrated_template(self) -> str:
        if self._template is None:
            name = self._create("template1")
            upgrade(self._url(name))
            with closing(psycopg2.connect(self._url(name), connect_timeout=3)) as connection, connection.cursor() as cursor:
                cursor.execute(_SHAPE)
                ((self._shape,),) = cursor.fetchall()
            self._template = name
        return self._template

    def _create(self, template: str) -> str:
        name = f"millpond_test_{os.getpid()}_{next(self._numbers)}"
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def _drop(self, name: str) -> None:
        if name in self._cleaners:
            self._cleaners.pop(name).close()
        # Not WITH (FORCE): that may not end an autovacuum worker, which without it is asked to leave.
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            _wait_for_others(cursor, name)
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def _connect(self) -> psycopg2.extensions.connection:
        connection = psycopg2.connect(self.server_url, connect_timeout=3)
        connection.autocommit = True
        return connection

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.server_url)._replace(path=f"/{name}"))


def _wait_for_others(cursor: psycopg2.extensions.cursor, name: str) -> None:
    """Ends all other connections to a database."""

    def ended() -> bool:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
            (name,),
        )
        return cursor.rowcount == 0

    wait_until(ended, 5.0, every_s=0.005, what=f"the connections to {name} to end")
