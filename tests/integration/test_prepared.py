"""Statements that are planned once: the same rows, prepared or not, and behind a pooler that forgets them."""

from contextlib import ExitStack

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models.prepared import MOST_ROWS, Prepared
from models.queries.claim import prepare_to_claim
from models.queries.finish import prepare_to_finish
from models.transactions import DatabaseAway, make_engine, statement, unit_of_work
from tests.support.jobs import run_sql

DOUBLED = """
    SELECT number, CAST(number AS text) || :unit AS words, number > :least AS more, CAST(:note AS text) AS note
    FROM unnest(CAST(:numbers AS int[])) AS number WHERE number <> :least ORDER BY number
"""
VALUES = {"numbers": [3, 1, 2], "unit": " mills", "least": 1, "note": None}


def _prepared_on(engine: Engine) -> list[str]:
    with statement(engine) as connection:
        return [row.name for row in connection.execute(text("SELECT name FROM pg_prepared_statements"))]


@pytest.mark.parametrize(("count", "prepared"), [(1, ["doubled"]), (MOST_ROWS, ["doubled"]), (MOST_ROWS + 1, [])])
def test_prepared_gives_the_rows_that_the_text_gives(engine: Engine, count: int, prepared: list[str]) -> None:
    doubled = Prepared("doubled", DOUBLED)
    for _ in range(8):  # the plan is kept from the sixth on
        with statement(engine) as connection:
            assert [tuple(row) for row in doubled.rows(connection, VALUES, count=count)] == [(2, "2 mills", True, None), (3, "3 mills", True, None)]
    assert _prepared_on(engine) == prepared


def test_prepared_inside_a_transaction_that_fails_is_there_for_the_next(engine: Engine) -> None:
    doubled = Prepared("doubled", DOUBLED)

    def prepare_and_fail() -> None:
        with unit_of_work(engine) as connection:
            doubled.rows(connection, VALUES, count=1)
            connection.execute(text("SELECT 1/0"))

    with pytest.raises(DBAPIError):
        prepare_and_fail()
    with unit_of_work(engine) as connection:
        assert len(doubled.rows(connection, VALUES, count=1)) == 2


@pytest.mark.parametrize("what", ["DEALLOCATE ALL", "PREPARE doubled AS SELECT 1"])
def test_prepared_behind_a_pooler_goes_on_as_text(engine: Engine, what: str) -> None:
    doubled = Prepared("doubled", DOUBLED)
    if what == "DEALLOCATE ALL":
        with statement(engine) as connection:
            doubled.rows(connection, VALUES, count=1)
    with statement(engine) as connection:
        connection.execute(text(what))
    for _ in range(2):
        with statement(engine) as connection:
            assert len(doubled.rows(connection, VALUES, count=1)) == 2


def test_prepared_behind_a_pooler_fails_one_transaction_and_no_other(engine: Engine) -> None:
    doubled = Prepared("doubled", DOUBLED)

    def run() -> int:
        with unit_of_work(engine) as connection:
            return len(doubled.rows(connection, VALUES, count=1))

    assert run() == 2
    with unit_of_work(engine) as connection:
        connection.execute(text("DEALLOCATE ALL"))
    with pytest.raises(DBAPIError):
        run()
    assert run() == 2


def test_prepared_error_of_the_statement_itself_is_the_callers(engine: Engine) -> None:
    with pytest.raises(DBAPIError), statement(engine) as connection:
        Prepared("divided", "SELECT 1 / CAST(:by AS int) AS quotient").rows(connection, {"by": 0}, count=1)


def test_prepared_on_a_server_that_has_gone_fails_once_for_all_connections(database_url: str) -> None:
    """Each connection of the pool would otherwise fail a request of its own, one after the other, as load reaches it."""
    pool, doubled = 4, Prepared("doubled", DOUBLED)
    engine = make_engine(database_url, pool_size=pool)

    def all_at_once() -> list[int]:
        with ExitStack() as stack:
            connections = [stack.enter_context(statement(engine)) for _ in range(pool)]
            return [len(doubled.rows(connection, VALUES, count=1)) for connection in connections]

    def end_all() -> None:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
        run_sql(onlooker, f"{others} AND backend_type = 'client backend' AND pid <> pg_backend_pid()")

    def cut_off() -> None:
        with statement(engine) as connection:
            end_all()
            doubled.rows(connection, VALUES, count=1)

    onlooker = make_engine(database_url, pool_size=1)
    assert all_at_once() == [2] * pool
    with pytest.raises(DatabaseAway):
        cut_off()
    assert all_at_once() == [2] * pool
    onlooker.dispose()
    engine.dispose()


@pytest.mark.parametrize("count", [1, MOST_ROWS + 1])
def test_prepared_arrays_arrive_as_they_were(engine: Engine, count: int) -> None:
    texts = ["", "NULL", None, 'a "mill", {it} says', "back\\slash", "O'Neill", "line\nbreak", "%(x)s :y", "é"]
    flags, numbers, alike = [True, False, None], [1.5, -2, None, 3e300], ['a "mill"'] * 3
    types = {"texts": "text[]", "flags": "bool[]", "numbers": "float8[]", "alike": "text[]", "nothing": "int[]"}
    query = Prepared("arrays", "SELECT " + ", ".join(f"CAST(:{name} AS {type_}) AS {name}" for name, type_ in types.items()))
    with statement(engine) as connection:
        (row,) = query.rows(connection, {"texts": texts, "flags": flags, "numbers": numbers, "alike": alike, "nothing": []}, count=count)
    assert (row.texts, row.flags, row.numbers, row.alike, row.nothing) == (texts, flags, numbers, alike, [])


def test_prepared_before_the_first_jobs_come_claim_and_finish_are_planned_once(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1, one_plan=True)
    with statement(engine) as connection:
        prepare_to_claim(connection)
        prepare_to_finish(connection)
        plans = connection.execute(text("SELECT name, generic_plans, custom_plans FROM pg_prepared_statements ORDER BY name")).all()
    assert [tuple(plan) for plan in plans] == [("millpond_claim", 1, 0), ("millpond_finish", 1, 0), ("millpond_finish_children", 1, 0)]
    engine.dispose()
