"""Takes deliveries away from senders that are gone: they are sent again at once, under the same ``webhook-id``."""

from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from models.queries.deliveries import reap_deliveries, unhint
from models.transactions import unit_of_work

log = structlog.get_logger(__name__)

REAP_DELIVERIES = 500


@dataclass(frozen=True, slots=True)
class Returned:
    """What one pass did.

    Attributes:
        deliveries: due again.
        more: whether there is probably more to do at once.
    """

    deliveries: int = 0
    more: bool = False


class DeliveryReaper:
    """Looks for lapsed leases of deliveries. Any number may run: each skips what another has locked.

    Args:
        engine: the database.
        grace_s: how long after its end a lease is taken away.
        every_s: how often to look.
    """

    name = "delivery reaper"

    def __init__(self, engine: Engine, *, grace_s: float, every_s: float) -> None:
        self.every_s = every_s
        self._engine = engine
        self._grace_s = grace_s

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Returned:
        """One pass: at most 500 deliveries, in one transaction; then their endpoints may be hinted at once.

        Raises:
            DatabaseAway, LockedRow: the next pass tries again.
        """
        with unit_of_work(self._engine) as connection:
            endpoints = reap_deliveries(connection, grace_s=self._grace_s, limit=REAP_DELIVERIES)
        if endpoints:
            log.warning("deliveries were taken from senders that are gone", deliveries=len(endpoints))
            with unit_of_work(self._engine) as connection:
                unhint(connection, endpoint_ids=list(set(endpoints)))
        return Returned(len(endpoints), more=len(endpoints) >= REAP_DELIVERIES)
