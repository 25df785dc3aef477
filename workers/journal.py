"""What a running job says meanwhile: pieces of output and progress, written a few times a second for those who watch."""

import time
from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import Engine

from models.queries.events import NewEvent, append_events
from models.transactions import DatabaseAway, LockedRow, statement

log = structlog.get_logger(__name__)

FLUSH_EVERY_S = 0.2
PAUSE = 20  # after a write that failed, events are only collected for so many times as long as it took: a run must not wait for the database


class Journal:
    """Collects events of one micro-batch and writes them in groups; a database that is away costs events, never the run."""

    def __init__(self, engine: Engine, jobs: Sequence[tuple[UUID, int]], *, restarted: bool = False) -> None:
        """Opens a journal.

        Args:
            engine: where events go.
            jobs: (id, fence) of each job, in the order of the micro-batch.
            restarted: whether the jobs may have run before in this attempt; the first piece of each then says that what came before is void.
        """
        self._engine = engine
        self._jobs = jobs
        self._to_restart = set(range(len(jobs))) if restarted else set()
        self._texts: dict[int, list[str]] = {}
        self._progress: dict[int, tuple[int, int]] = {}
        self._flush_at = time.monotonic() + FLUSH_EVERY_S

    def text(self, index: int, piece: str) -> None:
        """A new piece of the output text of the job at an index."""
        if piece:
            self._texts.setdefault(index, []).append(piece)
            self._maybe_flush()

    def progress(self, index: int, done: int, total: int) -> None:
        """``done`` of ``total`` steps of the job at an index are through; only the newest is kept."""
        self._progress[index] = (done, total)
        self._maybe_flush()

    def flush(self) -> None:
        """Writes what has been collected."""
        events = [self._event(index, "output.delta", self._delta(index, pieces)) for index, pieces in self._texts.items()]
        events += [self._event(index, "progress", {"done": done, "total": total}) for index, (done, total) in self._progress.items()]
        self._texts, self._progress = {}, {}
        self._flush_at = time.monotonic() + FLUSH_EVERY_S
        if events:
            began_at = time.monotonic()
            try:
                with statement(self._engine) as connection:
                    append_events(connection, events=events)
            except (DatabaseAway, LockedRow) as error:
                log.warning("events were not written", events=len(events), error=str(error))
                self._flush_at += PAUSE * (time.monotonic() - began_at)

    def _maybe_flush(self) -> None:
        if time.monotonic() >= self._flush_at:
            self.flush()

    def _delta(self, index: int, pieces: Sequence[str]) -> dict[str, object]:
        text = "".join(pieces)
        if index not in self._to_restart:
            return {"text": text}
        self._to_restart.discard(index)
        return {"text": text, "restarted": True}

    def _event(self, index: int, kind: str, data: dict[str, object]) -> NewEvent:
        job_id, fence = self._jobs[index]
        return NewEvent(job_id, fence, kind, data)
