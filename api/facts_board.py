"""What this process knows of how models are doing: looked up beside the requests, never by them."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Engine

from domain.catalogue import Catalogue
from domain.routing.breaker import State
from domain.routing.facts import COLD, ModelFacts
from models.queries.backlog import waiting_jobs
from models.queries.breakers import all_breakers
from models.queries.feedback import quality_by_model
from models.queries.model_stats import live_facts
from models.queries.queues import PoolWorkers, pool_workers
from models.session import DatabaseAway, LockedRow, unit_of_work

log = structlog.get_logger(__name__)

EVERY_S = 2.0
GOOD_RUNS = 5  # that every model is credited with: one failure of one run says little


@dataclass(frozen=True, slots=True)
class _Known:
    """One look: facts by model, and by pool how many batches its workers run at once."""

    facts: Mapping[str, ModelFacts]
    slots: Mapping[str, int]


class FactsBoard:
    """Looks every two seconds, and answers from the last look.

    While the database is away the last look stands; before the first one nothing is known of any model. Between two looks the jobs that this
    process has routed count as waiting, or all that come within two seconds would go to the same model.

    Args:
        engine: the database.
        catalogue: whose models are looked at.
        every_s: how often.
    """

    def __init__(self, engine: Engine, catalogue: Catalogue, *, every_s: float = EVERY_S) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._every_s = every_s
        self._known = _Known({}, {})
        self._routed: Counter[str] = Counter()  # by pool; two threads at once may lose one, which harms nobody
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
        known, pool = self._known, self._catalogue.models[model].pool
        facts = known.facts.get(model, COLD)
        routed = self._routed[pool]
        return facts if not routed else replace(facts, queued_per_worker=facts.queued_per_worker + routed / known.slots.get(pool, 1))

    def routed(self, model: str) -> None:
        """Notes that a job was given this model."""
        self._routed[self._catalogue.models[model].pool] += 1

    def look(self) -> None:
        """One look.

        Raises:
            DatabaseAway, LockedRow: what was known stays.
        """
        with unit_of_work(self._engine) as session:
            workers, live = pool_workers(session), live_facts(session)
            waiting = waiting_jobs(session, pools=list(self._catalogue.pools))
            breakers, now = all_breakers(session)
            quality = quality_by_model(session, priors={name: model.quality for name, model in self._catalogue.models.items()})
        slots = {pool: max(1, workers.get(pool, PoolWorkers()).concurrency) for pool in self._catalogue.pools}
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
                queued_per_worker=waiting[model.pool] / slots[model.pool],
                workers=workers.get(model.pool, PoolWorkers()).ready,
                quality=quality.get(name),
                breaker_open=shut and not due,
            )
        self._routed.clear()
        self._known = _Known(facts, slots)

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
