"""What the database server says of itself."""

from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A PostgreSQL server.

    Attributes:
        version_number: for comparing, for example 150020.
        version: for people.
        fsync: whether a commit reaches the disk.
    """

    version_number: int
    version: str
    fsync: bool


_FACTS = text(
    """
    SELECT CAST(current_setting('server_version_num') AS int) AS version_number, current_setting('server_version') AS version,
        current_setting('fsync') = 'on' AS fsync
    """
)


def server_facts(connection: Connection) -> ServerFacts:
    """Version and durability. Reads no table, so it works on an empty database."""
    row = connection.execute(_FACTS).one()
    return ServerFacts(row.version_number, row.version, row.fsync)
