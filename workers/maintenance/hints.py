"""Tells the senders of webhooks which endpoints have deliveries due: the relay of webhooks."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import Engine

from broker.sender import Sender
from domain.delivery import Standing
from domain.messages import HintMessage
from models.queries.deliveries import Due, take_hints, unhint
from models.transactions import DatabaseAway, LockedRow, statement

log = structlog.get_logger(__name__)

TAKE_ENDPOINTS = 500
PROBE_ENDPOINTS = 8  # while the broker is away, as in the relay
AGAIN_AFTER_S = 10.0
_URGENCY = {Standing.GOOD: 0, Standing.NEW: 1, Standing.FAILING: 2}


@dataclass(frozen=True, slots=True)
class Hinted:
    """What one pass published.

    Attributes:
        more: whether there is probably more to do at once.
    """

    endpoints: int = 0
    messages: int = 0
    more: bool = False


class Hints:
    """Marks endpoints, commits, then publishes: no row is locked while the broker is slow.

    A crash between the two costs ``again_after_s``. Any number may run: each takes what the others have not locked.

    Args:
        engine: the database.
        sender: this duty's own.
        every_s: how often to look while nothing is due.
        again_after_s: after so long, a hint that nothing came of counts as lost.
    """

    name = "hints"

    def __init__(self, engine: Engine, sender: Sender, *, every_s: float, again_after_s: float = AGAIN_AFTER_S) -> None:
        self.every_s = every_s
        self._engine = engine
        self._sender = sender
        self._again_after_s = again_after_s
        self._limit = TAKE_ENDPOINTS
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ends a pass after the message that is being sent; the rest of it is taken back."""
        self._stopping.set()

    def close(self) -> None:
        """Drops the connection to the broker."""
        self._sender.close()

    def run_once(self) -> Hinted:
        """One pass: at most 500 endpoints, those that work first; or 8 after a pass that failed.

        Raises:
            BrokerAway: some could not be published; they are due again.
            DatabaseAway, LockedRow: nothing was published.
        """
        with statement(self._engine) as connection:
            due = take_hints(connection, limit=self._limit, again_after_s=self._again_after_s)
        if not due:
            return Hinted()
        taken, self._limit = self._limit, PROBE_ENDPOINTS
        messages = self._publish(sorted(due, key=lambda one: _URGENCY[Standing(one.standing)]))
        self._limit = TAKE_ENDPOINTS
        return Hinted(len(due), messages, more=len(due) >= taken)

    def _publish(self, due: Sequence[Due]) -> int:
        unpublished = {one.endpoint_id for one in due}
        messages = 0
        try:
            for one in due:
                for _ in range(one.hints):
                    if self._stopping.is_set():
                        return messages
                    self._sender.send_hint(Standing(one.standing), HintMessage(one.endpoint_id))
                    messages += 1
                    unpublished.discard(one.endpoint_id)
        finally:
            self._take_back(sorted(unpublished))
        return messages

    def _take_back(self, endpoint_ids: Sequence[UUID]) -> None:
        if not endpoint_ids:
            return
        try:
            with statement(self._engine) as connection:
                unhint(connection, endpoint_ids=endpoint_ids)
        except (DatabaseAway, LockedRow) as error:
            log.warning("endpoints that were not hinted stay marked for a while", endpoints=len(endpoint_ids), error=str(error))
