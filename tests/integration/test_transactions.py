from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models import transactions
from models.prepared import Prepared
from models.transactions import make_engine, statement, unit_of_work
from tests.support.jobs import run_sql
from tests.support.waiting import wait_until


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


def test_statement_keeps_its_connection_and_leaves_the_others_to_units_of_work(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=3)
    kept = {_backend(engine) for _ in range(3)}
    with unit_of_work(engine) as one, unit_of_work(engine) as other:
        others = {connection.execute(text("SELECT pg_backend_pid()")).scalar_one() for connection in (one, other)}
    assert len(kept) == 1
    assert len(others) == 2
    assert not kept & others
    engine.dispose()
    onlooker = make_engine(database_url, pool_size=1)
    assert wait_until(lambda: not run_sql(onlooker, "SELECT FROM pg_stat_activity WHERE pid = ANY (:pids)", pids=[*kept, *others]))
    onlooker.dispose()


def test_unit_of_work_gets_what_a_statement_has_kept_where_the_pool_has_none_left(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=3)
    kept = _backend(engine)
    with unit_of_work(engine) as one, unit_of_work(engine) as two, unit_of_work(engine) as three:
        assert kept in {connection.execute(text("SELECT pg_backend_pid()")).scalar_one() for connection in (one, two, three)}
        three.execute(text("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'd')"))
        three.rollback()
    assert not run_sql(engine, "SELECT FROM tenants WHERE name = 'd'")
    engine.dispose()


def test_statement_keeps_nothing_that_somebody_waits_for(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=3)
    with ThreadPoolExecutor(1) as threads, unit_of_work(engine), unit_of_work(engine):
        with statement(engine):
            waits = threads.submit(_work, engine)
            assert wait_until(lambda: engine.get_execution_options()["millpond_kept"]._wanted)
        assert waits.result(1.0)
    engine.dispose()


def test_statement_drops_what_it_has_kept_for_too_long(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "RECYCLE_S", 0)
    engine = make_engine(database_url, pool_size=3)
    assert _backend(engine) != _backend(engine)
    engine.dispose()


def test_statement_that_outlives_the_engine_leaves_no_connection(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=3)
    onlooker = make_engine(database_url, pool_size=1)
    with statement(engine) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        engine.dispose()
    assert wait_until(lambda: not run_sql(onlooker, "SELECT FROM pg_stat_activity WHERE pid = :pid", pid=pid))
    onlooker.dispose()


def test_server_that_went_while_nothing_was_asked_fails_nobody(database_url: str) -> None:
    """What an orderly restart leaves behind, kept or in the pool, is seen before anything is sent."""
    engine = make_engine(database_url, pool_size=3)
    with unit_of_work(engine), unit_of_work(engine), statement(engine):
        pass
    before = {_backend(engine), _work(engine)}
    onlooker = make_engine(database_url, pool_size=1)
    run_sql(onlooker, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    assert wait_until(lambda: not run_sql(onlooker, others))
    with unit_of_work(engine), unit_of_work(engine):
        assert _backend(engine) not in before
    assert _work(engine) not in before
    engine.dispose()
    onlooker.dispose()


def test_statement_that_failed_keeps_nothing(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=3)
    with pytest.raises(DBAPIError), statement(engine) as connection:
        connection.execute(text("SELECT 1/0"))
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert _backend(engine)
    assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    engine.dispose()


def _backend(engine: Engine) -> int:
    with statement(engine) as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def _work(engine: Engine) -> int:
    with unit_of_work(engine) as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_uuids_arrive_as_uuids_and_one_seen_before_is_not_made_again(engine: Engine) -> None:
    query = text("SELECT CAST('0193a1e5-0000-7000-8000-000000000001' AS uuid) AS id, CAST(NULL AS uuid) AS none")
    with statement(engine) as connection:
        first, second = connection.execute(query).one(), connection.execute(query).one()
    assert first.id == UUID("0193a1e5-0000-7000-8000-000000000001")
    assert first.id is second.id
    assert first.none is None
