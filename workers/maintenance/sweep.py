"""Finds jobs that were published and whose message is gone: a purged queue, a wiped broker, a message nobody could read."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from broker.sender import Sender
from domain.catalogue import QueueName
from models.queries.relay import sweep_lost, sweep_overtaken
from models.transactions import statement

log = structlog.get_logger(__name__)

APART_S = 5.0  # between two looks at the same queue; one look may fall between a worker's taking and its claim
SWEEP_JOBS = 10_000
OVERTAKEN_S = 60.0  # a queue that is never empty: a job published so long before all that run now was passed by


@dataclass(frozen=True, slots=True)
class Swept:
    """What one pass found.

    Attributes:
        empty: queues that were seen without a ready message.
        jobs: made due again; the relay publishes them.
    """

    empty: int = 0
    jobs: int = 0
    more: bool = False


class Sweep:
    """Compares queues with the jobs that should be in them.

    A queue that shows no ready message in two looks 5 s apart has nothing for jobs that wait in it, but for what workers hold unclaimed: for
    these a second message is made, which does no harm, and less and less often. A queue that is never empty is looked at once a minute, for jobs
    that it has passed by.

    Args:
        engine: the database.
        sender: this sweep's own.
        queues: all queues.
        every_s: how often to look.
        apart_s: the least time between the two looks.
        overtaken_s: how long before all that runs now a job must have been published to count as passed by; also how often to look for such.
        base_s: a job is left alone for so long after its first publication, and twice as long after each further one.
        clock: seconds, monotonic.
    """

    name = "sweep"

    def __init__(
        self,
        engine: Engine,
        sender: Sender,
        *,
        queues: Sequence[QueueName],
        every_s: float,
        apart_s: float = APART_S,
        overtaken_s: float = OVERTAKEN_S,
        base_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every_s = every_s
        self._engine = engine
        self._sender = sender
        self._queues = tuple(queues)
        self._apart_s = apart_s
        self._overtaken_s = overtaken_s
        self._base_s = base_s
        self._clock = clock
        self._empty_since: dict[QueueName, float] = {}
        self._busy_since: dict[QueueName, float] = {}

    def stop(self) -> None:
        """A pass is short; nothing to end."""

    def close(self) -> None:
        """Drops the connection to the broker."""
        self._sender.close()

    def run_once(self) -> Swept:
        """One look at every queue.

        Raises:
            BrokerAway: what was seen before no longer counts.
            DatabaseAway, LockedRow: the next pass tries again.
        """
        empty = jobs = 0
        seen, self._empty_since = self._empty_since, {}
        for queue in self._queues:
            ready = self._sender.ready_messages(queue)
            now = self._clock()
            if ready:
                if now - self._busy_since.setdefault(queue, now) >= self._overtaken_s:
                    self._busy_since[queue] = now
                    jobs += self._sweep_overtaken(queue)
                continue
            self._busy_since.pop(queue, None)
            empty += 1
            since = seen.get(queue, now)
            self._empty_since[queue] = since
            if now - since >= self._apart_s:
                jobs += self._sweep(queue)
        return Swept(empty, jobs)

    def _sweep_overtaken(self, queue: QueueName) -> int:
        with statement(self._engine) as connection:
            jobs = sweep_overtaken(connection, pool=queue.pool, priority=queue.priority, margin_s=self._overtaken_s, base_s=self._base_s, limit=SWEEP_JOBS)
        if jobs:
            log.warning("jobs were passed by in their queue; they are published again", queue=str(queue), jobs=jobs)
        return jobs

    def _sweep(self, queue: QueueName) -> int:
        with statement(self._engine) as connection:
            jobs = sweep_lost(connection, pool=queue.pool, priority=queue.priority, base_s=self._base_s, limit=SWEEP_JOBS)
        if jobs:
            log.warning("published jobs had no message; they are published again", queue=str(queue), jobs=jobs)
        return jobs
