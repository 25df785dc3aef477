"""Statements that a connection plans once.

PostgreSQL plans a statement each time it comes as text. The ones that carry every job have half a dozen parts, and planning them takes longer than
running them for one job: 1.0 ms of 1.8. Prepared, a connection plans them five times and then keeps the plan; a worker's child once.

Arrays go as one literal each. The driver would write them element by element, and the server parse an expression of as many parts: for 64 ends of jobs
26 and 81 µs a job, in place of 13 and 66.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2.extras import NamedTupleCursor
from sqlalchemy import Connection, text

MOST_ROWS = 512  # past that a plan that was made for any number of rows may be a poor one
_PARAMETER = re.compile(r"CAST\(:(?P<cast>\w+) AS (?P<type>\w+(?:\[\])?)\)|(?<![:\w]):(?P<plain>\w+)")
_NOT_HERE = {"26000", "42P05"}  # a pooler between us and the server gives each transaction another connection


class Prepared:
    """One statement, run as it is written or prepared; the same parameters and rows either way.

    Args:
        name: of the prepared statement on each connection.
        sql: with ``:name`` for parameters; arrays and everything whose type the server cannot tell from its place as ``CAST(:name AS type)``.
    """

    def __init__(self, name: str, sql: str) -> None:
        numbers: dict[str, int] = {}
        types: dict[str, str] = {}

        def number(match: re.Match[str]) -> str:
            parameter = match["cast"] or match["plain"]
            numbers.setdefault(parameter, len(numbers) + 1)
            types[parameter] = match["type"] or types.get(parameter, "unknown")
            return f"${numbers[parameter]}"

        self.name = name
        self.sql = sql
        self._text = text(sql)
        body = _PARAMETER.sub(number, sql)
        values = (f"CAST(%({parameter})s AS {types[parameter]})" if types[parameter] != "unknown" else f"%({parameter})s" for parameter in numbers)
        self._prepare = f"PREPARE {name} ({', '.join(types[parameter] for parameter in numbers)}) AS {body}"
        self._execute = f"EXECUTE {name} ({', '.join(values)})"
        self._works = True

    def rows(self, connection: Connection, parameters: Mapping[str, Any], *, count: int) -> list[Any]:
        """Runs it and gives all rows; their columns are attributes.

        Args:
            connection: of ``statement`` or ``unit_of_work``; where a pooler does not know the prepared statement, the first goes on, and the second fails
                once: whoever runs it again has it as text.
            parameters: by name; a list is an array of texts, numbers or truth values.
            count: how many rows it is about; past ``MOST_ROWS`` it goes as text.

        Raises:
            DBAPIError: as SQLAlchemy raises it.
        """
        values = {name: array(value) if isinstance(value, list) else value for name, value in parameters.items()}
        if count > MOST_ROWS or not self._works:
            return list(connection.execute(self._text, values))
        driver: Any = connection.connection.driver_connection
        try:
            return self._run(driver, connection.connection.info.setdefault("prepared", set()), values)
        except psycopg2.Error as error:
            if error.pgcode in _NOT_HERE:
                self._works = False
                if driver.autocommit:
                    return list(connection.execute(self._text, values))
            # As after a statement of SQLAlchemy's own: the error is wrapped, and a server that is gone takes all that the pool holds with it.
            connection._handle_dbapi_exception(error, None, None, None, None)  # noqa: SLF001 - no public name does it

    def _run(self, driver: Any, known: set[str], values: Mapping[str, Any]) -> list[Any]:
        """By the driver itself: SQLAlchemy takes longer to make a result than to fetch a small one."""
        with driver.cursor(cursor_factory=NamedTupleCursor) as cursor:
            if self.name not in known:
                cursor.execute(self._prepare)
                known.add(self.name)
            cursor.execute(self._execute, values)
            rows: list[Any] = cursor.fetchall()
            return rows


def array(values: Sequence[object]) -> str:
    """An array as PostgreSQL writes it: of texts, or of anything whose text is the server's own way to write it; None is NULL."""
    if values and values.count(values[0]) == len(values):  # as most columns of a batch are
        return "{" + ",".join([_element(values[0])] * len(values)) + "}"
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
