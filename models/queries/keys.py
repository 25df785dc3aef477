"""Who a key belongs to, and the first key of an empty system."""

from sqlalchemy import Connection, text

from domain.keys import Principal
from models.identity import new_id

_FIND = text(
    """
    SELECT id, tenant_id FROM api_keys
    WHERE key_hash = :key_hash AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    """
)

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('millpond first key', 0))")
_KNOWN = text("SELECT id, tenant_id FROM api_keys WHERE key_hash = :key_hash")
_ANY = text("SELECT EXISTS (SELECT FROM api_keys)")
_TENANT = text("SELECT id FROM tenants WHERE name = :name ORDER BY id LIMIT 1")
_NEW_TENANT = text("INSERT INTO tenants (id, name) VALUES (:id, :name)")
_NEW_KEY = text("INSERT INTO api_keys (id, tenant_id, key_hash, hint) VALUES (:id, :tenant_id, :key_hash, :hint)")


def find_key(connection: Connection, *, key_hash: bytes) -> Principal | None:
    """Who calls with this key; None when it is unknown, revoked or expired. Locks nothing; reads the unique index of hashes."""
    row = connection.execute(_FIND, {"key_hash": key_hash}).one_or_none()
    return None if row is None else Principal(tenant_id=row.tenant_id, key_id=row.id)


def ensure_first_key(connection: Connection, *, key_hash: bytes, hint: str, tenant_name: str = "default") -> Principal:
    """Makes sure that a key is known, with a tenant that owns it; call it in a unit of work at start.

    Safe when several processes start at once: an advisory lock lets one look at a time, and each statement sees what the one
    before has committed. A key that was revoked stays revoked.

    Args:
        key_hash: SHA-256 of the key.
        hint: the part of the key that lists may show.
        tenant_name: the tenant that gets a new key; the oldest of that name, made if there is none.
    """
    connection.execute(_LOCK)
    row = connection.execute(_KNOWN, {"key_hash": key_hash}).one_or_none()
    if row is not None:
        return Principal(tenant_id=row.tenant_id, key_id=row.id)
    return _add(connection, key_hash, hint, tenant_name)


def add_first_key(connection: Connection, *, key_hash: bytes, hint: str, tenant_name: str = "default") -> bool:
    """Makes a key known where there is none at all; call it in a unit of work at start.

    Of several processes that start at once one adds its key, by the lock of ``ensure_first_key``; arguments as there.

    Returns:
        Whether it was added; not where there is a key already, be it revoked or expired.
    """
    connection.execute(_LOCK)
    if connection.execute(_ANY).scalar_one():
        return False
    _add(connection, key_hash, hint, tenant_name)
    return True


def _add(connection: Connection, key_hash: bytes, hint: str, tenant_name: str) -> Principal:
    tenant_id = connection.execute(_TENANT, {"name": tenant_name}).scalar_one_or_none()
    if tenant_id is None:
        tenant_id = new_id()
        connection.execute(_NEW_TENANT, {"id": tenant_id, "name": tenant_name})
    principal = Principal(tenant_id=tenant_id, key_id=new_id())
    connection.execute(_NEW_KEY, {"id": principal.key_id, "tenant_id": tenant_id, "key_hash": key_hash, "hint": hint})
    return principal
