"""Migrations go up and down from an empty database, step by step, and end where the records are."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from models.migrate import downgrade, pending, upgrade
from models.records import Record
from models.transactions import make_engine

REVISIONS = sorted(path.name[:4] for path in (Path(__file__).parents[2] / "migrations" / "versions").glob("[0-9]*.py"))


@pytest.fixture(params=["embedded", pytest.param("oldest", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, empty_database_url: str) -> str:
    return empty_database_url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = make_engine(url, pool_size=2)
    yield engine
    engine.dispose()


def shape(engine: Engine) -> dict[str, Any]:
    """Everything that migrations make: columns, indexes, constraints, functions, triggers."""
    queries = {
        "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2",
        "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1, 2",
        "constraints": "SELECT CAST(conrelid AS regclass)::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass ORDER BY 1, 2",
        "functions": "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
        "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    }
    with engine.connect() as connection:
        return {name: [tuple(row) for row in connection.execute(text(query))] for name, query in queries.items()}


def test_migrations_up_and_down_step_by_step_leave_what_was_there_before(url: str, engine: Engine) -> None:
    shapes = []
    for revision in REVISIONS:
        upgrade(url, revision)
        shapes.append(shape(engine))
    for step in range(len(REVISIONS) - 1, 0, -1):
        downgrade(url, REVISIONS[step - 1])
        assert shape(engine) == shapes[step - 1], f"{REVISIONS[step]} does not take back all it made"
        upgrade(url, REVISIONS[step])
        assert shape(engine) == shapes[step]
        downgrade(url, REVISIONS[step - 1])
    downgrade(url, "base")
    assert shape(engine) == {name: [] for name in shapes[0]}
    upgrade(url)
    assert shape(engine) == shapes[-1]


def test_migrations_started_twice_at_once_run_once(url: str) -> None:
    program = "import sys; from models.migrate import upgrade; upgrade(sys.argv[1])"
    both = [subprocess.Popen([sys.executable, "-c", program, url], cwd=Path.cwd()) for _ in range(2)]

    assert [process.wait(60) for process in both] == [0, 0]
    assert pending(url) == []


def test_migrations_pending_are_listed_oldest_first(url: str) -> None:
    assert pending(url) == REVISIONS
    upgrade(url, "0002")
    assert pending(url) == REVISIONS[2:]
    upgrade(url)
    assert pending(url) == []
    upgrade(url)


def test_records_have_the_columns_that_migrations_made(url: str, engine: Engine) -> None:
    """Columns, types, whether they may be null.

    Indexes are left out: they are partial and ordered, written by hand in migrations, and queries name the ones they use; defaults
    are compared in the next test.
    """
    upgrade(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [difference for difference in compare_metadata(context, Record.metadata) if not _is_of_an_index(difference)]
    assert differences == []


def _is_of_an_index(difference: Any) -> bool:
    return isinstance(difference, tuple) and difference[0] in {"add_index", "remove_index"}


def test_records_missing_column_is_found(url: str, engine: Engine) -> None:
    """Proves that the test before this one can fail."""
    upgrade(url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs DROP COLUMN custom_id, ALTER COLUMN fence TYPE integer, ALTER COLUMN model DROP NOT NULL"))
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = [difference for difference in compare_metadata(context, Record.metadata) if not _is_of_an_index(difference)]
    assert len(found) == 3


def test_records_have_the_defaults_and_keys_that_migrations_made(url: str, engine: Engine) -> None:
    upgrade(url)
    inspector = inspect(engine)
    for table in Record.metadata.sorted_tables:
        made = {column["name"]: column for column in inspector.get_columns(table.name)}
        for column in table.columns:
            assert (column.server_default is not None) == (made[column.name]["default"] is not None), f"{table.name}.{column.name}"
        assert inspector.get_pk_constraint(table.name)["constrained_columns"] == [column.name for column in table.primary_key]


def test_migration_that_meets_a_long_lock_gives_up_and_changes_nothing(url: str, engine: Engine) -> None:
    """`lock_timeout` is 4 s: better a failed migration than a queue of requests behind it."""
    upgrade(url, "0003")
    before = shape(engine)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(Exception, match="lock timeout"):
            upgrade(url)
    assert shape(engine) == before
