"""The key that a new installation begins with."""

from sqlalchemy import Engine

from domain.keys import Principal, hash_key, hint_of
from models.queries.keys import ensure_first_key
from models.transactions import unit_of_work


def ensure_key(engine: Engine, key: str) -> Principal:
    """Makes sure that the first key works; any number of processes may do so at once."""
    with unit_of_work(engine) as connection:
        return ensure_first_key(connection, key_hash=hash_key(key), hint=hint_of(key))
