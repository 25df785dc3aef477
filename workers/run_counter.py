"""Counts the runs of models in memory, and writes the counts once a second at most.

Nothing is written per job, and no run waits for it. A process that is killed loses a second of counts; so does one whose database is
away, since counts that may or may not have been written are not written twice.
"""

import threading
from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import Engine

from domain.histogram import bucket_of
from domain.job import Outcome, Status
from domain.run_counts import RunCounts
from models.queries.finish import Ending, Return
from models.queries.model_stats import add_counts
from models.transactions import DatabaseAway, LockedRow, statement

log = structlog.get_logger(__name__)

FLUSH_EVERY_S = 1.0
_SUCCEEDED, _FAILED, _ESCALATED = Status.SUCCEEDED, Status.FAILED, Outcome.ESCALATED  # looking one up in its enumeration takes as long as the rest of a count


class RunCounter:
    """What this process has counted and not written yet. Any thread may count, any may flush."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._counts: dict[tuple[UUID | None, str], RunCounts] = {}
        self._some = threading.Event()

    def count(self, model: str, outcomes: Sequence[tuple[UUID | None, Ending | Return]], *, run_ms: float | None = None) -> None:
        """Counts runs that ended together.

        Args:
            model: which ran.
            outcomes: tenant (None: no tenant's, the model's alone) and outcome of each; jobs that were canceled, expired or given back unspent count as no run.
            run_ms: how long they ran; None where they did not.
        """
        bucket = None if run_ms is None else bucket_of(run_ms)
        with self._lock:
            for tenant_id, outcome in outcomes:
                counts = self._counts.get((tenant_id, model))
                if counts is None:
                    counts = self._counts[tenant_id, model] = RunCounts()
                _count(counts, outcome, bucket)
        self._some.set()

    def flush(self) -> None:
        """Writes what has been counted, by one statement; loses it where the database does not take it."""
        with self._lock:
            counted, self._counts = {key: counts for key, counts in self._counts.items() if counts.runs}, {}
        if not counted:
            return
        try:
            with statement(self._engine) as connection:
                add_counts(connection, counts=counted)
        except (DatabaseAway, LockedRow) as error:
            log.warning("counts of runs were lost", runs=sum(counts.runs for counts in counted.values()), error=str(error))
        except Exception:  # counts must end no thread and no pass
            log.exception("counts of runs were lost")

    def start(self) -> None:
        """Flushes from now on a second after something was counted, in a thread that does not keep the process alive."""
        threading.Thread(target=self._keep_flushing, name="run counter", daemon=True).start()

    def _keep_flushing(self) -> None:
        pause = threading.Event()
        while self._some.wait():
            pause.wait(FLUSH_EVERY_S)
            self._some.clear()
            self.flush()


def _count(counts: RunCounts, outcome: Ending | Return, bucket: int | None) -> None:
    ending = outcome if isinstance(outcome, Ending) else None
    if outcome.failure is None and (outcome.outcome is _ESCALATED if isinstance(outcome, Return) else outcome.status is _SUCCEEDED):
        if bucket is not None:
            counts.run_ms[bucket] += 1
    elif outcome.failure is not None and (ending is None or ending.status is _FAILED):
        counts.failures[outcome.failure.code] += 1
    else:
        return
    counts.runs += 1
    counts.jobs += ending is not None
    counts.input_tokens += outcome.input_tokens or 0
    counts.output_tokens += outcome.output_tokens or 0
    if outcome.cost_usd:
        counts.cost_usd += outcome.cost_usd
