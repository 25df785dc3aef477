"""Erases results when their retention ends, and later the rows; forgets old keys and silent workers."""

from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from models.queries.model_stats import forget_days, forget_minutes
from models.queries.prune import delete_empty_batches, delete_erased, delete_old_events, erase_expired, forget_idempotency_keys
from models.queries.queues import forget_silent
from models.queries.shadows import forget_comparisons
from models.transactions import statement

log = structlog.get_logger(__name__)

PRUNE_JOBS = 500
KEEP_ERASED_S = 30 * 86_400.0  # API.md: 410 for 30 days after the erasure, then 404
SILENT_WORKER_S = 86_400.0
KEEP_MINUTES_S = 3_600.0  # twelve times what routes look back
KEEP_COMPARISONS_S = 91 * 86_400.0  # as far back as a report goes
KEEP_DAYS_S = 400 * 86_400.0  # a year, and a month to compare with the same of the year before


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one pass removed.

    Attributes:
        erased: jobs whose input and output went.
        deleted: jobs whose rows went.
        keys: Idempotency-Keys over 24 h old.
        batches: batches without jobs.
        events: events of no job, over 30 days old.
        stats: minutes over an hour old, days over 400 old and comparisons of shadows over 91 days old, of models.
        workers: worker processes that had said nothing for a day.
        more: whether there is probably more to do at once.
    """

    erased: int = 0
    deleted: int = 0
    keys: int = 0
    batches: int = 0
    events: int = 0
    stats: int = 0
    workers: int = 0
    more: bool = False


class Pruner:
    """Small statements, one after the other: no lock is held for long, and vacuum keeps up.

    Args:
        engine: the database.
        every_s: how often to look.
        limit: rows a statement.
    """

    name = "pruner"

    def __init__(self, engine: Engine, *, every_s: float, limit: int = PRUNE_JOBS) -> None:
        self.every_s = every_s
        self._engine = engine
        self._limit = limit

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Holds nothing of its own."""

    def run_once(self) -> Pruned:
        """One pass: at most ``limit`` rows of each kind.

        Raises:
            DatabaseAway, LockedRow: the next pass goes on where this one stopped.
        """
        with statement(self._engine) as connection:
            erased = erase_expired(connection, limit=self._limit)
            deleted = delete_erased(connection, kept_s=KEEP_ERASED_S, limit=self._limit)
            keys = forget_idempotency_keys(connection, limit=self._limit)
            batches = delete_empty_batches(connection, older_than_s=KEEP_ERASED_S, limit=self._limit)
            events = delete_old_events(connection, kept_s=KEEP_ERASED_S, limit=self._limit)
            days = forget_days(connection, kept_s=KEEP_DAYS_S, limit=self._limit)
            comparisons = forget_comparisons(connection, kept_s=KEEP_COMPARISONS_S, limit=self._limit)
            stats = forget_minutes(connection, kept_s=KEEP_MINUTES_S) + days + comparisons
            workers = forget_silent(connection, silent_s=SILENT_WORKER_S)
        if erased or deleted or keys or batches or events or stats or workers:
            log.info("pruned", erased=erased, deleted=deleted, keys=keys, batches=batches, events=events, stats=stats, workers=workers)
        return Pruned(erased, deleted, keys, batches, events, stats, workers, more=self._limit in {erased, deleted, keys, batches, events, days, comparisons})
