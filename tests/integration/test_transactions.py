import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models.prepared import Prepared
from models.transactions import make_engine, statement, unit_of_work
from tests.support.jobs import run_sql


def test_statement_commits_by_itself_and_a_unit_of_work_does_not(engine: Engine) -> None:
    def status() -> tuple[bool, str]:
        row = connection.execute(text("SELECT pg_current_xact_id_if_assigned() IS NULL AS fresh, current_setting('transaction_isolation') AS level")).one()
        return row.fresh, row.level

    def insert_and_raise() -> None:
        with unit_of_work(engine) as connection:
            connection.execute(text("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'b')"))
            raise ZeroDivisionError

    for _ in range(3):  # the same connections again and again
        with statement(engine) as connection:
            connection.execute(text("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'a')"))
            assert status() == (True, "read committed")
        with pytest.raises(ZeroDivisionError):
            insert_and_raise()
    assert [row.name for row in run_sql(engine, "SELECT name FROM tenants")] == ["a"] * 3


def test_statement_that_fails_leaves_its_connection_usable(engine: Engine) -> None:
    with pytest.raises(DBAPIError), statement(engine) as connection:
        connection.execute(text("SELECT 1/0"))
    with unit_of_work(engine) as connection:
        connection.execute(text("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'c')"))
    assert run_sql(engine, "SELECT count(*) AS n FROM tenants")[0].n == 1


@pytest.mark.parametrize(("prepared", "heard"), [(False, "SELECT pg_backend_pid()"), (True, "EXECUTE who (CAST(1 AS int))")])
def test_statement_is_the_last_thing_the_server_hears(engine: Engine, *, prepared: bool, heard: str) -> None:
    """One round trip: nothing is set before it or reset after it."""
    who = Prepared("who", "SELECT pg_backend_pid() AS pid, CAST(:one AS int)")
    for _ in range(3):  # SQLAlchemy's isolation level begins to cost at the second
        with statement(engine) as connection:
            pid = who.rows(connection, {"one": 1}, count=1)[0].pid if prepared else connection.execute(text(heard)).scalar_one()
    onlooker = make_engine(engine.url.render_as_string(hide_password=False), pool_size=1)
    last = run_sql(onlooker, "SELECT query FROM pg_stat_activity WHERE pid = :pid", pid=pid)[0].query
    onlooker.dispose()
    assert last == heard
