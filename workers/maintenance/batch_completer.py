"""Notices batches whose last job has ended, and says so: ``batch.completed``.

Not a part of the statement that ends a job: two that end the last two jobs of a batch at one moment would each see the other's still live.
"""

from dataclasses import dataclass

from sqlalchemy import Engine

from models.queries.event_feed import complete_batches
from models.transactions import unit_of_work

COMPLETE_BATCHES = 200


@dataclass(frozen=True, slots=True)
class Completed:
    """What one pass did.

    Attributes:
        more: whether there is probably more to do at once.
    """

    batches: int = 0
    more: bool = False


class BatchCompleter:
    """Looks at open batches. Any number may run: each skips what another has locked.

    Args:
        engine: the database.
        every_s: how often to look.
    """

    name = "batch completer"

    def __init__(self, engine: Engine, *, every_s: float) -> None:
        self.every_s = every_s
        self._engine = engine

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Completed:
        """One pass: at most 200 batches, in one transaction, with their events.

        Raises:
            DatabaseAway, LockedRow: the next pass tries again.
        """
        with unit_of_work(self._engine) as connection:
            batches = complete_batches(connection, limit=COMPLETE_BATCHES)
        return Completed(batches, more=batches >= COMPLETE_BATCHES)
