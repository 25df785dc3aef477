"""The publisher: a thread that sends what was just queued, so that neither a request nor a run ever waits for the broker.

An API process has one for what it accepts, a child of a worker for jobs that it gives to another model.

It is the fast path, not the safe one. When its buffer is full, the broker is away or the process dies, the job is in Postgres
all the same, and maintenance's relay publishes it.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import Engine

from broker.sender import BrokerAway, Sender, pack
from domain.catalogue import QueueName
from models.queries.relay import mark_published
from models.transactions import DatabaseAway, LockedRow, statement

log = structlog.get_logger(__name__)

BUFFER_JOBS = 50_000
ROUND_JOBS = 1_024
BREAKER_FAILURES = 3
BREAKER_OPEN_S = 5.0
CROWD_JOBS = 4  # so many in one round: more are about to come, and it pays to wait for them
CROWDED_S = 0.1  # how long after a round its size still says something
LINGER_STEP_S = 0.01
LINGER_STEPS = 6  # at most, and only as long as each brings a crowd
LINGER_JOBS = 128  # ids of the largest messages of the catalogue
MARK_EVERY_S = 0.6  # well under the 2 s for which the relay leaves fresh rows alone


@dataclass(frozen=True, slots=True)
class Published:
    """One job that waits to be sent; the fence is the one under which it was queued."""

    queue: QueueName
    model: str
    id: UUID
    fence: int = 0


class Publisher:
    """Sends accepted jobs, several in a message, from one daemon thread.

    While jobs come in crowds it lingers for some milliseconds, so that messages are full and workers' batches larger: a message costs three times as
    much as accepting a job, a batch of two almost as much as one of twenty. It stops as soon as a step of 10 ms brings no crowd, so that clients who
    all wait for their jobs lose that much and no more. A client that sends one after the other is never held up.
    A job that a worker claims at once needs no note that it was published, so notes are made up to 0.6 s later: on an idle
    system that saves a write a job.

    Args:
        sender: this publisher's own.
        engine: the database.
        ids_per_message: by model; one where it is not named.
        mark_every_s: how late notes may be; at once where the relay does not leave the rows alone for a while.
    """

    def __init__(self, *, sender: Sender, engine: Engine, ids_per_message: dict[str, int], mark_every_s: float = MARK_EVERY_S) -> None:
        self._mark_every_s = mark_every_s
        self._sender = sender
        self._engine = engine
        self._ids_per_message = ids_per_message
        self._waiting: deque[Published] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._failures = 0
        self._open_until = 0.0
        self._unmarked: list[tuple[UUID, int]] = []
        self._mark_at = 0.0
        self._crowded_until = 0.0
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def offer(self, jobs: Sequence[Published]) -> None:
        """Takes jobs to send; drops them silently when the buffer is full or the breaker is open (the relay has them)."""
        if time.monotonic() >= self._open_until and len(self._waiting) < BUFFER_JOBS:
            self._waiting.extend(jobs)
            self._wake.set()

    @property
    def broker_is_away(self) -> bool:
        """Whether the breaker is open."""
        return time.monotonic() < self._open_until

    def stop(self, timeout_s: float = 5.0) -> None:
        """Sends what waits, notes it, and ends the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)
        self._sender.close()

    def _run(self) -> None:
        while True:
            timeout_s = max(0.0, self._mark_at - time.monotonic()) if self._unmarked else None
            self._wake.wait(timeout_s)
            self._wake.clear()
            try:
                self._work()
            except Exception:
                log.exception("publishing failed unexpectedly; the relay has the jobs")
            if self._stopping:
                return

    def _work(self) -> None:
        while self._waiting:
            if time.monotonic() < self._crowded_until:
                self._linger()
            self._send_round()
        if self._unmarked and (self._stopping or time.monotonic() >= self._mark_at):
            self._mark()

    def _linger(self) -> None:
        for _ in range(LINGER_STEPS):
            before = len(self._waiting)
            if before >= LINGER_JOBS or self._stopping:
                return
            time.sleep(LINGER_STEP_S)
            if len(self._waiting) - before < CROWD_JOBS:
                return

    def _send_round(self) -> None:
        count = min(len(self._waiting), ROUND_JOBS)
        if count > LINGER_JOBS:
            count -= count % LINGER_JOBS  # the rest goes with what comes next: a message of few ids costs as much as a full one
        jobs = [self._waiting.popleft() for _ in range(count)]
        if len(jobs) >= CROWD_JOBS:
            self._crowded_until = time.monotonic() + CROWDED_S
        messages = list(pack(((job.queue, job.model, False, job.id) for job in jobs), ids_per_message=self._ids_per_message))
        try:
            self._sender.send_all(messages)
        except BrokerAway as error:
            self._failed(error)
            return
        self._failures = 0
        if not self._unmarked:
            self._mark_at = time.monotonic() + self._mark_every_s
        self._unmarked.extend((job.id, job.fence) for job in jobs)
        if time.monotonic() >= self._mark_at:
            self._mark()

    def _failed(self, error: BrokerAway) -> None:
        self._failures += 1
        if self._failures >= BREAKER_FAILURES:
            self._open_until = time.monotonic() + BREAKER_OPEN_S
            self._waiting.clear()
            log.warning("broker is away; the relay will publish", error=str(error), retry_in_s=BREAKER_OPEN_S)

    def _mark(self) -> None:
        marked, self._unmarked = self._unmarked, []
        try:
            with statement(self._engine) as connection:
                mark_published(connection, published=marked)
        except (DatabaseAway, LockedRow) as error:
            log.warning("published jobs could not be marked; the relay will publish them again", jobs=len(marked), error=str(error))
