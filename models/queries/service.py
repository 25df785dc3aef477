"""What the service asks the database about itself."""

from sqlalchemy import Connection, text

_MIGRATED = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_REVISION = text("SELECT version_num FROM alembic_version")


def applied_revision(connection: Connection) -> str | None:
    """The newest migration that the database has; None when it has none. Locks nothing."""
    if not connection.execute(_MIGRATED).scalar_one():
        return None
    revision: str | None = connection.execute(_REVISION).scalar_one_or_none()
    return revision
