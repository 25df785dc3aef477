"""Secrets that sign webhooks: made here, sealed, and shown once."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from domain.errors import ServiceUnavailable
from models.identity import new_id
from models.queries.secrets import add_secret, has_secret, secrets_of
from models.sealing import Sealer, new_secret
from models.transactions import unit_of_work

OVERLAP_S = 86_400.0  # API.md: after a rotation both secrets sign for 24 h


@dataclass(frozen=True, slots=True)
class MadeSecret:
    """A new secret, and until when the one before it signs too."""

    text: str
    previous_expires_at: datetime | None


class SigningSecrets:
    """Makes secrets and stores them sealed.

    Args:
        engine: of the database.
        sealer: holds the keys of the settings.
    """

    def __init__(self, engine: Engine, sealer: Sealer) -> None:
        self._engine = engine
        self._sealer = sealer
        self._have_default: set[UUID] = set()  # a tenant that has one keeps one

    def make(self, connection: Connection, *, tenant_id: UUID, endpoint_id: UUID | None) -> MadeSecret:
        """Adds the newest secret of an endpoint, or the tenant's default one, in the caller's transaction.

        Raises:
            ServiceUnavailable: somebody else has just added one.
        """
        text = new_secret()
        if not self._add(connection, text, tenant_id=tenant_id, endpoint_id=endpoint_id):
            raise ServiceUnavailable("The secret is being changed by another request; ask again.", retry_after_s=1.0)
        older = secrets_of(connection, tenant_id=tenant_id, endpoint_id=endpoint_id)[1:]
        return MadeSecret(text, older[0].expires_at if older else None)

    def ensure_default(self, tenant_id: UUID) -> None:
        """Makes sure that webhooks of the tenant's jobs can be signed; asks the database once a tenant and process."""
        if tenant_id in self._have_default:
            return
        with unit_of_work(self._engine) as connection:
            if not has_secret(connection, tenant_id=tenant_id, endpoint_id=None):
                self._add(connection, new_secret(), tenant_id=tenant_id, endpoint_id=None)  # another that comes at the same moment will do as well
        self._have_default.add(tenant_id)

    def _add(self, connection: Connection, text: str, *, tenant_id: UUID, endpoint_id: UUID | None) -> bool:
        sealed = self._sealer.seal(text)
        return add_secret(
            connection,
            secret_id=new_id(),
            tenant_id=tenant_id,
            endpoint_id=endpoint_id,
            sealed=sealed.sealed,
            sealing_key=sealed.key_id,
            overlap_s=OVERLAP_S,
        )
