"""Brings a database to the newest schema, or says how far it is behind."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from models.transactions import make_engine, sqlalchemy_url

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["url"] = sqlalchemy_url(database_url)
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Runs the missing migrations, each in a transaction of its own; does nothing where none is missing."""
    command.upgrade(_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Takes migrations back, down to ``revision`` (``base`` for an empty database)."""
    command.downgrade(_config(database_url), revision)


def known_revisions() -> list[str]:
    """Every revision that this code knows, the oldest first."""
    revisions = [revision.revision for revision in ScriptDirectory(str(_MIGRATIONS)).walk_revisions("base", "heads")]
    revisions.reverse()
    return revisions


def pending(database_url: str) -> list[str]:
    """The revisions that the database lacks, the oldest first."""
    engine = make_engine(database_url, pool_size=1)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    missing = known_revisions()
    return missing[missing.index(current) + 1 :] if current in missing else missing
