from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from sqlalchemy import Engine

from models.identity import new_id
from models.queries.secrets import add_secret, has_secret, replace_sealed, sealed_by_others, secrets_of
from models.sealing import Sealer, make_sealing_key, new_secret
from models.transactions import unit_of_work
from tests.support.jobs import TENANT, run_sql

ENDPOINT = UUID(int=7)


def add(engine: Engine, sealed: bytes, *, endpoint_id: UUID | None = ENDPOINT, sealing_key: str = "one", overlap_s: float = 60.0) -> bool:
    with unit_of_work(engine) as connection:
        return add_secret(
            connection, secret_id=new_id(), tenant_id=TENANT, endpoint_id=endpoint_id, sealed=sealed, sealing_key=sealing_key, overlap_s=overlap_s
        )


def signing(engine: Engine, endpoint_id: UUID | None = ENDPOINT) -> list[bytes]:
    with unit_of_work(engine) as connection:
        return [secret.sealed for secret in secrets_of(connection, tenant_id=TENANT, endpoint_id=endpoint_id)]


def test_rotation_keeps_the_older_secret_until_its_overlap_is_over(engine: Engine) -> None:
    assert add(engine, b"a")
    assert add(engine, b"b")
    assert add(engine, b"c")
    assert signing(engine) == [b"c", b"b", b"a"]
    run_sql(engine, "UPDATE webhook_secrets SET expires_at = now() - interval '1 s' WHERE sealed = 'b'")
    assert signing(engine) == [b"c", b"a"]
    assert add(engine, b"d")
    assert {bytes(row.sealed) for row in run_sql(engine, "SELECT sealed FROM webhook_secrets")} == {b"a", b"c", b"d"}  # what is over is gone


def test_secrets_of_endpoint_and_tenant_are_apart(engine: Engine) -> None:
    add(engine, b"endpoint's")
    with unit_of_work(engine) as connection:
        assert has_secret(connection, tenant_id=TENANT, endpoint_id=ENDPOINT)
        assert not has_secret(connection, tenant_id=TENANT, endpoint_id=None)
    add(engine, b"tenant's", endpoint_id=None)
    assert (signing(engine), signing(engine, None)) == ([b"endpoint's"], [b"tenant's"])
    with unit_of_work(engine) as connection:
        assert secrets_of(connection, tenant_id=new_id(), endpoint_id=None) == []


def test_first_secret_made_by_many_at_once_is_one(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda number: add(engine, bytes([number]), endpoint_id=None), range(1, 9)))
    kept = signing(engine, None)
    assert len(kept) == sum(added)  # each that was told so is there
    assert len(run_sql(engine, "SELECT id FROM webhook_secrets WHERE expires_at IS NULL")) == 1


def test_resealing_reaches_every_row_and_loses_to_a_change(engine: Engine) -> None:
    old_key, new_key = make_sealing_key(), make_sealing_key()
    old, new = Sealer([old_key]), Sealer([new_key, old_key])
    secrets = [new_secret() for _ in range(3)]
    for secret in secrets:
        sealed = old.seal(secret)
        add(engine, sealed.sealed, sealing_key=sealed.key_id)
    with unit_of_work(engine) as connection:
        due = sealed_by_others(connection, sealing_key=new.key_id, limit=10)
        assert len(due) == 3
        for row in due:
            sealed = new.seal(new.unseal(row.sealed))
            for old_sealed, replaced in ((b"something else", False), (row.sealed, True)):
                done = replace_sealed(connection, secret_id=row.id, old_sealed=old_sealed, sealed=sealed.sealed, sealing_key=sealed.key_id)
                assert done is replaced
        assert sealed_by_others(connection, sealing_key=new.key_id, limit=10) == []
    alone = Sealer([new_key])
    assert [alone.unseal(sealed) for sealed in signing(engine)] == secrets[::-1]


def test_dump_of_the_table_holds_no_secret(engine: Engine) -> None:
    secret = new_secret()
    sealed = Sealer([make_sealing_key()]).seal(secret)
    add(engine, sealed.sealed, sealing_key=sealed.key_id)
    dump = str([[bytes(value) if isinstance(value, memoryview) else value for value in row] for row in run_sql(engine, "SELECT * FROM webhook_secrets")])
    assert "whsec_" not in dump
    assert secret.removeprefix("whsec_") not in dump
