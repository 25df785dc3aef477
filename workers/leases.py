"""Keeps the leases of everything a worker runs, from its main process: a child busy in native code could not.

A renewal proves that the worker lives; the watchdog proves that its work moves.
"""

import os
import socket
import threading
import time
from uuid import UUID

import structlog
from sqlalchemy import Engine

from models.queries.lease import LeaseState, renew_leases
from models.queries.queues import beat, forget
from models.transactions import DatabaseAway, LockedRow, statement
from workers.batcher import Batcher
from workers.config import WorkerConfig
from workers.dispatch import Dispatch

log = structlog.get_logger(__name__)


class LeaseKeeper(threading.Thread):
    """Renews leases every few seconds, raises stop flags by what the answer says, and reports the worker's state."""

    def __init__(self, config: WorkerConfig, engine: Engine, batcher: Batcher) -> None:
        super().__init__(name="leases", daemon=True)
        self._config = config
        self._engine = engine
        self._batcher = batcher
        self._stopping = threading.Event()

    def run(self) -> None:
        """Ticks until stopped; a database that is away costs ticks, and after ``lease_s`` leases, nothing else."""
        while not self._stopping.wait(self._config.lease_renew_s if self._batcher.ready else min(1.0, self._config.lease_renew_s)):
            try:
                self.tick()
            except (DatabaseAway, LockedRow) as error:
                log.warning("leases were not renewed", error=str(error))
            except Exception:  # without this thread every lease would end, whatever runs
                log.exception("a renewal failed")

    def stop(self) -> None:
        """Ends the thread and takes the worker off the list."""
        self._stopping.set()
        self.join(5.0)
        try:
            with statement(self._engine) as connection:
                forget(connection, name=self._config.name)
        except (DatabaseAway, LockedRow) as error:
            log.warning("worker was not taken off the list", error=str(error))

    def tick(self) -> None:
        """One renewal of everything, and one report.

        Raises:
            DatabaseAway, LockedRow: the next tick tries again.
        """
        dispatches = self._batcher.dispatches
        holdings = self._batcher.holdings
        if holdings:
            with statement(self._engine) as connection:
                states = renew_leases(connection, holdings=holdings, lease_s=self._config.lease_s)
            by_job = {(state.id, state.owner): state for state in states}
            for dispatch in dispatches:
                with self._batcher.held_still(dispatch) as lives:
                    if lives:
                        self._apply(dispatch, by_job)
        with statement(self._engine) as connection:
            beat(
                connection,
                name=self._config.name,
                pool=self._config.pool,
                host=socket.gethostname(),
                pid=os.getpid(),
                concurrency=self._config.concurrency,
                ready=self._batcher.ready,
                busy=self._batcher.busy,
                finish_per_s=self._batcher.tally.per_s(),
            )
        for dispatch in dispatches:
            if self._batcher.is_ghost(dispatch) and self._is_over(dispatch):
                self._batcher.bury(dispatch)

    def _is_over(self, ghost: Dispatch) -> bool:
        """Whether a ghost holds nothing any more, or its child has died; nobody else would learn of that, so the reaper takes what it held."""
        if ghost.place.pid and not _runs(ghost.place.pid):
            return True
        return time.monotonic() - ghost.born_at > self._config.lease_s and not ghost.seen_held

    def _apply(self, dispatch: Dispatch, states: dict[tuple[UUID, str], LeaseState]) -> None:
        """Raises the stop flag of each job that has ended, or that someone else owns by now."""
        for index, job_id in enumerate(dispatch.ids):
            state = states.get((job_id, dispatch.owner))
            if state is None:
                dispatch.seen_held.discard(job_id)
            elif state.held:
                dispatch.seen_held.add(job_id)
            elif state.status.final or job_id in dispatch.seen_held:
                dispatch.seen_held.discard(job_id)
                dispatch.place.stop(index)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
