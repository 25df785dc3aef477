from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine

from domain.keys import Principal
from models.queries.keys import add_first_key, ensure_first_key, find_key
from models.transactions import statement, unit_of_work
from tests.support.jobs import run_sql

HASH = b"h" * 32


def ensure(engine: Engine, key_hash: bytes = HASH, **tenant: str) -> Principal:
    with unit_of_work(engine) as connection:
        return ensure_first_key(connection, key_hash=key_hash, hint="key…", **tenant)


def find(engine: Engine, key_hash: bytes = HASH) -> Principal | None:
    with statement(engine) as connection:
        return find_key(connection, key_hash=key_hash)


def test_ensure_first_key_by_many_at_once_makes_one_tenant_and_one_key(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        principals = list(pool.map(lambda _: ensure(engine), range(16)))
    assert len(set(principals)) == 1
    assert run_sql(engine, "SELECT (SELECT count(*) FROM tenants), (SELECT count(*) FROM api_keys)") == [(1, 1)]
    assert find(engine) == principals[0]


def test_ensure_first_key_another_key_joins_the_tenant_of_that_name(engine: Engine) -> None:
    first, second, third = ensure(engine), ensure(engine, b"i" * 32), ensure(engine, b"j" * 32, tenant_name="other")
    assert first.tenant_id == second.tenant_id != third.tenant_id
    assert len({first.key_id, second.key_id, third.key_id}) == 3


def test_find_key_unknown_revoked_or_expired_is_none(engine: Engine) -> None:
    assert find(engine) is None
    ensure(engine)
    run_sql(engine, "UPDATE api_keys SET expires_at = now() - interval '1 second'")
    assert find(engine) is None
    run_sql(engine, "UPDATE api_keys SET expires_at = now() + interval '1 hour'")
    assert find(engine) is not None
    run_sql(engine, "UPDATE api_keys SET revoked_at = now()")
    assert find(engine) is None


def test_ensure_first_key_revoked_stays_revoked(engine: Engine) -> None:
    known = ensure(engine)
    run_sql(engine, "UPDATE api_keys SET revoked_at = now()")
    assert ensure(engine) == known
    assert find(engine) is None


def add(engine: Engine, key_hash: bytes) -> bool:
    with unit_of_work(engine) as connection:
        return add_first_key(connection, key_hash=key_hash, hint="key…")


def test_add_first_key_by_many_at_once_adds_one(engine: Engine) -> None:
    hashes = [bytes([number]) * 32 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda key_hash: add(engine, key_hash), hashes))
    assert sum(added) == 1
    assert [find(engine, key_hash) is not None for key_hash in hashes] == added


def test_add_first_key_where_all_are_revoked_adds_none(engine: Engine) -> None:
    ensure(engine)
    run_sql(engine, "UPDATE api_keys SET revoked_at = now()")
    assert not add(engine, b"i" * 32)
    assert find(engine, b"i" * 32) is None
