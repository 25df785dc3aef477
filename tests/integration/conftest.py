"""Fixtures of tests that need a database: SQL is tried on both, the embedded PostgreSQL and the oldest that is supported."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from models.transactions import make_engine


@pytest.fixture(params=["embedded", pytest.param("oldest", marks=pytest.mark.servers)])
def engine(request: pytest.FixtureRequest, database_url: str) -> Iterator[Engine]:
    """A migrated database of its own."""
    engine = make_engine(database_url, pool_size=24)
    yield engine
    engine.dispose()
