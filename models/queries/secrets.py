"""Signing secrets as they are stored: sealed. An endpoint has its own; webhooks of single jobs are signed with the tenant's default one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret that only the settings' keys can open.

    Attributes:
        endpoint_id: whose it is; None for the tenant's default secret.
        sealing_key: which key sealed it.
        expires_at: it signs until then, beside a newer one; None for the newest.
    """

    id: UUID
    tenant_id: UUID
    endpoint_id: UUID | None
    sealed: bytes
    sealing_key: str
    created_at: datetime
    expires_at: datetime | None


_COLUMNS = "id, tenant_id, endpoint_id, sealed, sealing_key, created_at, expires_at"
_OWNED = "tenant_id = :tenant_id AND endpoint_id IS NOT DISTINCT FROM CAST(:endpoint_id AS uuid)"

_RETIRE = text(f"UPDATE webhook_secrets SET expires_at = now() + make_interval(secs => :overlap_s) WHERE {_OWNED} AND expires_at IS NULL")  # noqa: S608

_ADD = text(
    """
    INSERT INTO webhook_secrets (id, tenant_id, endpoint_id, sealed, sealing_key) VALUES (:id, :tenant_id, :endpoint_id, :sealed, :sealing_key)
    ON CONFLICT DO NOTHING RETURNING id
    """
)

_FORGET = text(f"DELETE FROM webhook_secrets WHERE {_OWNED} AND expires_at <= now()")  # noqa: S608

_SIGNING = text(
    f"""
    SELECT {_COLUMNS} FROM webhook_secrets WHERE {_OWNED} AND (expires_at IS NULL OR expires_at > now())
    ORDER BY (expires_at IS NULL) DESC, created_at DESC, id DESC
    """  # noqa: S608
)

_HAS = text(f"SELECT EXISTS (SELECT FROM webhook_secrets WHERE {_OWNED} AND expires_at IS NULL)")  # noqa: S608

_OTHERS = text(f"SELECT {_COLUMNS} FROM webhook_secrets WHERE sealing_key <> :sealing_key AND id > :after ORDER BY id LIMIT :limit")  # noqa: S608

_REPLACE = text("UPDATE webhook_secrets SET sealed = :sealed, sealing_key = :sealing_key WHERE id = :secret_id AND sealed = :old_sealed RETURNING id")


def add_secret(
    connection: Connection, *, secret_id: UUID, tenant_id: UUID, endpoint_id: UUID | None, sealed: bytes, sealing_key: str, overlap_s: float
) -> bool:
    """Adds the newest secret of an endpoint, or of a tenant; the one before it signs too for ``overlap_s``. Call it in a unit of work.

    Locks the older row. Where another transaction adds one at the same moment, this one waits for it and adds nothing.

    Returns:
        Whether it was added.
    """
    owner: Mapping[str, object] = {"tenant_id": tenant_id, "endpoint_id": endpoint_id}
    connection.execute(_FORGET, owner)
    connection.execute(_RETIRE, {**owner, "overlap_s": overlap_s})
    row = connection.execute(_ADD, {**owner, "id": secret_id, "sealed": sealed, "sealing_key": sealing_key}).one_or_none()
    return row is not None


def secrets_of(connection: Connection, *, tenant_id: UUID, endpoint_id: UUID | None) -> list[SealedSecret]:
    """The secrets that sign now, the newest first. Locks nothing; reads ``webhook_secrets_of_endpoint``."""
    return [_secret(row) for row in connection.execute(_SIGNING, {"tenant_id": tenant_id, "endpoint_id": endpoint_id})]


def has_secret(connection: Connection, *, tenant_id: UUID, endpoint_id: UUID | None) -> bool:
    """Whether there is one that signs. Locks nothing; reads ``webhook_secrets_of_endpoint``."""
    return bool(connection.execute(_HAS, {"tenant_id": tenant_id, "endpoint_id": endpoint_id}).scalar_one())


def sealed_by_others(connection: Connection, *, sealing_key: str, after: UUID | None = None, limit: int) -> list[SealedSecret]:
    """Secrets that another key sealed, of ids above ``after``. Locks nothing; reads the whole table, which has a few rows an endpoint."""
    return [_secret(row) for row in connection.execute(_OTHERS, {"sealing_key": sealing_key, "after": after or UUID(int=0), "limit": limit})]


def replace_sealed(connection: Connection, *, secret_id: UUID, old_sealed: bytes, sealed: bytes, sealing_key: str) -> bool:
    """Stores the same secret under another key, if it is still what the caller opened. Locks its row.

    Returns:
        Whether it was.
    """
    values = {"secret_id": secret_id, "old_sealed": old_sealed, "sealed": sealed, "sealing_key": sealing_key}
    return connection.execute(_REPLACE, values).one_or_none() is not None


def _secret(row: Row[Any]) -> SealedSecret:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row by column
    values["sealed"] = bytes(values["sealed"])  # the driver gives a memoryview
    return SealedSecret(**values)
