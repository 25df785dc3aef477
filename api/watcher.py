"""Waiting without asking: one thread per process looks for all waiting requests together.

A request that waits holds a server thread but no database connection. At most a set number may wait; past that a wait degrades
to an immediate answer, so that submits and health checks never queue behind waiters.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import structlog

from models.queries.read import Watched
from models.transactions import DatabaseAway, LockedRow

log = structlog.get_logger(__name__)

TICK_S = 0.005
QUICK_TICK_S = 0.002  # while few wait; the mean time from a job's end to its answer is half a tick and a look
FEW = 4
FIRST_LOOK_S = 0.004  # what was just submitted does not come through queue and worker sooner, and needs the processor on its way there
SLOWEST_S = 0.25
YOUNG_S = 1.0
MOST_DOUBLINGS = 10.0  # far beyond the slowest; a stream may be hours old
MOST_BUSY = 4.0  # it rests four times as long as a look took: hundreds of young waiters cost a fifth of a core, not all of it
AWAY_S = 0.25  # between looks while the database is away


class Watch:
    """One request's view of one job."""

    __slots__ = ("_changed", "_since", "away", "due", "end_alone", "gone", "job_id", "seen", "state")

    def __init__(self, job_id: UUID, seen: int, now: float, *, end_alone: bool) -> None:
        self.job_id = job_id
        self.seen = seen
        self.state: Watched | None = None
        self.gone = False
        self.away = False
        self.due = now + FIRST_LOOK_S
        self.end_alone = end_alone
        self._since = now
        self._changed = threading.Lock()  # held while there is nothing new
        self._changed.acquire()

    @property
    def over(self) -> bool:
        """Whether there is nothing more to learn."""
        return self.gone or (self.state is not None and self.state.status.final)

    def wait(self, timeout_s: float) -> Watched | None:
        """How the job stands once that is news; None when the time is over, the job is gone, or the database is away."""
        return self.state if self._changed.acquire(timeout=max(0.0, timeout_s)) and not (self.gone or self.away) else None

    def tell(self, state: Watched | None, now: float) -> None:
        """Takes what the database says; wakes the request if it is news."""
        if state is None:
            self.gone = True
        elif state.event_seq == self.seen:
            if (old_s := now - self._since - YOUNG_S) > 0:
                pause_s = min(SLOWEST_S, TICK_S * 2.0 ** int(min(old_s, MOST_DOUBLINGS)))
                self.due = (now // pause_s + 1) * pause_s  # of the clock, so that all who wait as long are looked at together
            else:
                self.due = now
            return
        else:
            self.state, self.seen = state, state.event_seq
            self._since = self.due = now
            if self.end_alone and not state.status.final:
                return
        self._wake()

    def lose(self) -> None:
        """The database is away: the request answers what it knows."""
        self.away = True
        self._wake()

    def _wake(self) -> None:
        if self._changed.locked():
            self._changed.release()


class Watcher:
    """Asks the database for all watched jobs at once.

    First after 4 ms, then every 5 ms, or 2 ms while few wait, for those that began to wait, or changed, within the last second; then more and more seldom,
    every 250 ms at last. Not at all when nobody waits.

    Args:
        look: the query, called from the watcher's thread alone; told whether all for whom it looks want nothing but the end, and the ended job with it.
        most: how many requests may wait at once.
    """

    def __init__(self, *, look: Callable[[Sequence[UUID], bool], Sequence[Watched]], most: int) -> None:
        self._look = look
        self._most = most
        self._watches: set[Watch] = set()
        self._arrival = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; every request that waits answers what it knows."""
        self._stopping.set()
        with self._arrival:
            self._arrival.notify()

    @property
    def stopping(self) -> bool:
        """Whether the process is about to end."""
        return self._stopping.is_set()

    @property
    def held(self) -> int:
        """How many requests wait now."""
        return len(self._watches)

    @contextmanager
    def watch(self, job_id: UUID, *, seen: int, end_alone: bool = False) -> Iterator[Watch | None]:
        """Watches a job for the length of a ``with`` block; None when as many wait as may.

        Args:
            job_id: which.
            seen: number of the newest event that the caller knows; anything above it is news.
            end_alone: whether nothing but the job's end wakes the caller.
        """
        watch = Watch(job_id, seen, time.monotonic(), end_alone=end_alone)
        with self._arrival:
            if len(self._watches) >= self._most or self._stopping.is_set():
                full = True
            else:
                full = False
                self._watches.add(watch)
                self._arrival.notify()
        if full:
            yield None
            return
        try:
            yield watch
        finally:
            with self._arrival:
                self._watches.discard(watch)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if due := self._wait_for_due():
                self._stopping.wait(self._ask(due, time.monotonic()))
        with self._arrival:
            for watch in self._watches:
                watch.lose()

    def _wait_for_due(self) -> list[Watch]:
        """Sleeps until something is due."""
        with self._arrival:
            now = time.monotonic()
            live = [watch for watch in self._watches if not watch.over]
            due = [watch for watch in live if watch.due <= now]
            if not due and not self._stopping.is_set():
                self._arrival.wait(min(watch.due for watch in live) - now if live else None)
            return due

    def _ask(self, due: Sequence[Watch], now: float) -> float:
        try:
            states = {state.id: state for state in self._look(list({watch.job_id for watch in due}), all(watch.end_alone for watch in due))}
        except (DatabaseAway, LockedRow) as error:
            log.warning("watcher: database is away", waiting=len(due), error=str(error))
            return _lose(due)
        except Exception:  # a thread that ends would leave every later wait to run out
            log.exception("watcher: unexpected error", waiting=len(due))
            return _lose(due)
        for watch in due:
            watch.tell(states.get(watch.job_id), now)
        if len(due) <= FEW:
            return QUICK_TICK_S
        return max(TICK_S, MOST_BUSY * (time.monotonic() - now))


def _lose(watches: Sequence[Watch]) -> float:
    for watch in watches:
        watch.lose()
    return AWAY_S
