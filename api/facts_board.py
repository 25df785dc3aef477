"""What this process knows of how models are doing: looked up beside the requests, never by them."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Engine

from domain.catalogue import Catalogue
from domain.routing.breaker import State
from domain.routing.facts import COLD, ModelFacts
from models.qualities import Qualities
from models.queries.backlog import waiting_jobs
from models.queries.breakers import all_breakers
from models.queries.model_stats import live_facts
from models.queries.queues import PoolWorkers, pool_workers
from models.transactions import DatabaseAway, LockedRow, unit_of_work

log = structlog.get_logger(__name__)

EVERY_S = 2.0
GOOD_RUNS = 5  # that every model is credited with: one failure of one run says little


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool as the last look saw it.

    Attributes:
        slots: batches that its workers run at once, 1 or more.
        finish_per_s: jobs that they can bring to an end, if its slowest model is asked; 0 while nobody knows.
    """

    slots: int
    finish_per_s: float


class FactsBoard:
    """Looks every two seconds, and answers from the last look.

    While the database is away the last look stands; before the first one nothing is known of any model. Between two looks the backlog of a pool is
    reckoned on: what this process has routed to it comes on top, what its workers can do in that time comes off. Else all jobs of two seconds
    would go to the model that was free at the last look.

    Args:
        engine: the database.
        catalogue: whose models are looked at.
        every_s: how often.
        qualities: how good the models are; made here if not given.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        *,
        every_s: float = EVERY_S,
        qualities: Callable[[], Mapping[str, float | None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._every_s = every_s
        self._qualities = qualities or Qualities(engine, catalogue)
        self._clock = clock
        self._facts: Mapping[str, ModelFacts] = {}
        self._pools: Mapping[str, _Pool] = {}
        self._backlog: dict[str, tuple[float, float]] = {}  # by pool: jobs, and when; two threads at once may lose one, which harms nobody
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="facts", daemon=True)

    def start(self) -> None:
        """Begins to look; not where no task has two models, so that nobody pays for what nobody asks."""
        if any(len(self._catalogue.models_of_task(task)) > 1 for task in self._catalogue.tasks):
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def facts(self, model: str) -> ModelFacts:
        """How a model is doing; asks nobody."""
        pool = self._catalogue.models[model].pool
        facts, seen = self._facts.get(model, COLD), self._pools.get(pool)
        waiting = self._waiting(pool)
        return replace(facts, queued_per_worker=waiting / (seen.slots if seen else 1)) if waiting else facts

    def routed(self, model: str) -> None:
        """Notes that a job was given this model."""
        pool = self._catalogue.models[model].pool
        self._backlog[pool] = (self._waiting(pool) + 1.0, self._clock())

    def look(self) -> None:
        """One look.

        Raises:
            DatabaseAway, LockedRow: what was known stays.
        """
        qualities = self._qualities()
        with unit_of_work(self._engine) as connection:
            workers, live = pool_workers(connection), live_facts(connection)
            waiting = waiting_jobs(connection, pools=list(self._catalogue.pools))
            breakers, now = all_breakers(connection)
        facts = {}
        for name, model in self._catalogue.models.items():
            stats, breaker = live.get(name), breakers.get(name)
            # A model that is due to be tried again is judged without its failures, or nobody would try it before these are forgotten.
            shut = breaker is not None and breaker.state is not State.CLOSED
            due = shut and breaker is not None and breaker.shut_until(now) is None
            facts[name] = ModelFacts(
                latency_ms=None if stats is None else stats.p50_ms,
                p95_ms=None if stats is None else stats.p95_ms,
                error_rate=0.0 if stats is None or due else stats.failures / (stats.runs + GOOD_RUNS),
                workers=workers.get(model.pool, PoolWorkers()).ready,
                quality=qualities[name],
                breaker_open=shut and not due,
            )
        self._pools = {pool: self._pool(pool, workers.get(pool, PoolWorkers()), facts) for pool in self._catalogue.pools}
        self._backlog = {pool: (float(jobs), self._clock()) for pool, jobs in waiting.items()}
        self._facts = facts

    def _pool(self, name: str, workers: PoolWorkers, facts: Mapping[str, ModelFacts]) -> _Pool:
        slots = max(1, workers.concurrency)
        models = [(model, facts[each].latency_ms) for each, model in self._catalogue.models_of_pool(name).items()]
        return _Pool(slots, min((slots * model.max_batch_size * 1_000.0 / ms for model, ms in models if ms), default=0.0))

    def _waiting(self, pool: str) -> float:
        """The backlog of a pool by now, in jobs."""
        jobs, at = self._backlog.get(pool, (0.0, 0.0))
        seen = self._pools.get(pool)
        return max(0.0, jobs - (self._clock() - at) * seen.finish_per_s) if seen and jobs else jobs

    def _run(self) -> None:
        away = False
        while not self._stopping.is_set():
            try:
                self.look()
                away = False
            except (DatabaseAway, LockedRow) as error:
                if not away:
                    log.warning("routing goes by what was known before", error=str(error))
                away = True
            except Exception:  # one bad look must not end all others
                log.exception("a look at the models failed")
            self._stopping.wait(self._every_s)
