"""Fresh, migrated PostgreSQL databases: migrated once into a template, copied for each test in some 50 ms."""

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg2
from psycopg2 import sql

from models.migrate import upgrade

_OURS = re.compile(r"millpond_test_(\d+)_")


class Databases:
    """Databases of one server for one test session; their names carry the process id, so that leftovers are known as such."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self._numbers = count(1)
        self._template: str | None = None

    @contextmanager
    def fresh(self, *, migrated: bool = True) -> Iterator[str]:
        """The URL of a database of its own, dropped afterwards, whoever is still connected."""
        name = self._create(self._migrated_template() if migrated else "template1")
        try:
            yield self._url(name)
        finally:
            self._drop(name)

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

    def _migrated_template(self) -> str:
        if self._template is None:
            name = self._create("template1")
            upgrade(self._url(name))
            self._template = name
        return self._template

    def _create(self, template: str) -> str:
        name = f"millpond_test_{os.getpid()}_{next(self._numbers)}"
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def _drop(self, name: str) -> None:
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def _connect(self) -> psycopg2.extensions.connection:
        connection = psycopg2.connect(self.server_url, connect_timeout=3)
        connection.autocommit = True
        return connection

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self.server_url)._replace(path=f"/{name}"))
