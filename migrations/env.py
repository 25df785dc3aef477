"""Alembic's entry: the URL comes from the caller; migrations import nothing of the application."""

from alembic import context
from sqlalchemy import create_engine, pool

config = context.config
ONE_AT_A_TIME = 0x6D696C6C  # the advisory lock of whoever migrates


def run() -> None:
    """Runs the migrations over one connection; one that waits 4 s for a lock, or runs 60 s, gives up.

    Whoever comes second waits up to a minute for the first to end, and then finds nothing to do.
    """
    engine = create_engine(config.attributes["url"], poolclass=pool.NullPool, connect_args={"options": "-c lock_timeout=4000 -c statement_timeout=60000"})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as turn, engine.connect() as connection:
        turn.exec_driver_sql("SET lock_timeout = 60000")
        turn.exec_driver_sql(f"SELECT pg_advisory_lock({ONE_AT_A_TIME})")  # as long as this connection lives
        context.configure(connection=connection, target_metadata=config.attributes.get("metadata"), transaction_per_migration=True, compare_type=True)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
