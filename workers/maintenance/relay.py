"""Publishes jobs that are due and that no message speaks of: after a crash, for a retry, at ``not_before``, after an outage."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import Engine

from broker.sender import Sender, pack
from domain.catalogue import QueueName
from domain.job import Priority
from models.queries.relay import FRESH_S, DueJob, take_due, unmark_published
from models.transactions import DatabaseAway, LockedRow, statement

log = structlog.get_logger(__name__)

TAKE_JOBS = 1_000
_URGENCY = {priority: place for place, priority in enumerate(Priority)}
PROBE_JOBS = 8  # taken while the broker is away: a real publish is the only honest probe, and each row taken in vain is written twice


@dataclass(frozen=True, slots=True)
class Relayed:
    """What one pass published.

    Attributes:
        more: whether there is probably more to do at once.
    """

    jobs: int = 0
    messages: int = 0
    more: bool = False


class Relay:
    """Takes due jobs, commits, then publishes them: no row is locked while the broker is slow.

    A crash between the two leaves jobs marked that no message speaks of; the sweep finds them. Any number may run: each takes
    what the others have not locked.

    Args:
        engine: the database.
        sender: this relay's own.
        ids_per_message: by model; one where it is not named.
        every_s: how often to look while nothing is due.
        fresh_s: how long rows are left to the API process that wrote them.
    """

    name = "relay"

    def __init__(self, engine: Engine, sender: Sender, *, ids_per_message: Mapping[str, int], every_s: float, fresh_s: float = FRESH_S) -> None:
        self.every_s = every_s
        self._engine = engine
        self._sender = sender
        self._ids_per_message = dict(ids_per_message)
        self._fresh_s = fresh_s
        self._limit = TAKE_JOBS
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ends a pass after the message that is being sent; the rest of it is given back."""
        self._stopping.set()

    def close(self) -> None:
        """Drops the connection to the broker."""
        self._sender.close()

    def run_once(self) -> Relayed:
        """One pass: at most 1,000 jobs of each priority, the most urgent first; or 8 after a pass that failed.

        Raises:
            BrokerAway: some could not be published; they are due again.
            DatabaseAway, LockedRow: nothing was published.
        """
        with statement(self._engine) as connection:
            due = take_due(connection, limit=self._limit, fresh_s=self._fresh_s)
        if not due:
            return Relayed()
        taken, self._limit = self._limit, PROBE_JOBS
        jobs, messages = self._publish(sorted(due, key=lambda job: (_URGENCY[job.priority], job.id)))
        self._limit = TAKE_JOBS
        return Relayed(jobs, messages, more=len(due) >= taken)

    def _publish(self, due: Sequence[DueJob]) -> tuple[int, int]:
        fences = {job.id: job.fence for job in due}
        rows = ((QueueName(job.pool, job.priority), job.model, job.solo, job.id) for job in due)
        messages = 0
        try:
            for queue, message in pack(rows, ids_per_message=self._ids_per_message):
                if self._stopping.is_set():
                    break
                self._sender.send(queue, message)
                messages += 1
                for job_id in message.ids:
                    del fences[job_id]
        finally:
            self._give_back(fences)
        return len(due) - len(fences), messages

    def _give_back(self, fences: Mapping[UUID, int]) -> None:
        if not fences:
            return
        try:
            with statement(self._engine) as connection:
                unmark_published(connection, unpublished=list(fences.items()))
        except (DatabaseAway, LockedRow) as error:
            log.warning("jobs that were not published stay marked; the sweep finds them", jobs=len(fences), error=str(error))
