"""Brings signing secrets under the newest sealing key, so that an older one can be taken out of the settings."""

from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import Engine

from models.queries.secrets import replace_sealed, sealed_by_others
from models.sealing import Sealer, UnknownSealingKey
from models.transactions import statement, unit_of_work

log = structlog.get_logger(__name__)

RESEAL_SECRETS = 200


@dataclass(frozen=True, slots=True)
class Resealed:
    """What one pass did.

    Attributes:
        secrets: under the newest key now.
        unknown: that no key of the settings opens; they stay as they are.
        more: whether there is probably more to do at once.
    """

    secrets: int = 0
    unknown: int = 0
    more: bool = False


class Resealer:
    """Looks for secrets that another key sealed. Any number may run: a secret that changed meanwhile is left to the next pass.

    Secrets are opened and sealed outside of any transaction. A crash in the middle leaves some under the older key, which still opens them.

    Args:
        engine: the database.
        sealer: opens with any key of the settings, seals with the first.
        every_s: how often to look.
    """

    name = "resealer"

    def __init__(self, engine: Engine, sealer: Sealer, *, every_s: float) -> None:
        self.every_s = every_s
        self._engine = engine
        self._sealer = sealer
        self._said = 0
        self._after = UUID(int=0)

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Resealed:
        """One pass: at most 200 secrets.

        Raises:
            DatabaseAway, LockedRow: the next pass tries again.
        """
        with statement(self._engine) as connection:
            found = sealed_by_others(connection, sealing_key=self._sealer.key_id, after=self._after, limit=RESEAL_SECRETS)
        self._after = found[-1].id if len(found) == RESEAL_SECRETS else UUID(int=0)  # those that nobody can open must not hide the rest
        fresh = []
        unknown = 0
        for secret in found:
            try:
                fresh.append((secret, self._sealer.seal(self._sealer.unseal(secret.sealed))))
            except UnknownSealingKey:
                unknown += 1
        resealed = 0
        if fresh:
            with unit_of_work(self._engine) as connection:
                for secret, sealed in fresh:
                    resealed += replace_sealed(connection, secret_id=secret.id, old_sealed=secret.sealed, sealed=sealed.sealed, sealing_key=sealed.key_id)
            log.info("secrets were sealed with the newest key", secrets=resealed)
        if unknown != self._said:
            log.error("no key of MILLPOND_SECRET_KEYS opens some secrets; their webhooks wait", secrets=unknown)
            self._said = unknown
        return Resealed(resealed, unknown, more=len(found) >= RESEAL_SECRETS)
