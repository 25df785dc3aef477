"""The batcher: turns messages into dispatches, one of them per free child, in a worker's main process.

It outlives the broker's connections. While a child is free it gets what waits at once, so an idle worker adds no waiting; while
all are busy the buffer fills, so a loaded one runs full batches, and there is no window to tune. Everything here runs in the
event loop's thread, but for the few things that a lock guards because the lease keeper and the watchdog read them.
"""

import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import UUID

import structlog
from billiard.exceptions import WorkerLostError

from domain.catalogue import ModelSpec
from domain.job import Priority
from domain.messages import JobsMessage, UnreadableMessage
from models.transactions import DatabaseAway, LockedRow
from workers.board import MAX_JOBS, Board, Progress
from workers.child import PLACES_PER_SLOT, ModelNotLoaded, load_models, run_dispatch
from workers.config import WorkerConfig
from workers.dispatch import Dispatch, Kill
from workers.lanes import BrokerMessage, Lanes, Waiting

log = structlog.get_logger(__name__)

MAX_LOAD_FAILURES = 3
AGAIN_AFTER_S = 1.0  # before jobs are tried again whose child could not reach the database, could not load their model, or died before it claimed them
_PASSING = (DatabaseAway, LockedRow, ModelNotLoaded)  # what a child raises when no job is to blame


class Pool(Protocol):
    """What the batcher needs of Celery's prefork pool."""

    def apply_async(self, target: Callable[..., Any], args: Sequence[Any], **options: Any) -> Any:
        """Runs a function in a child; None when the pool is closing."""


@dataclass(frozen=True, slots=True)
class _Again:
    """Jobs of a dispatch that failed as a whole; this worker holds their leases until they have run again."""

    owner: str
    model: str
    ids: tuple[UUID, ...]
    solo: bool
    due_at: float
    acknowledge: Callable[[], None]


@dataclass(slots=True)
class Tally:
    """Counts for the worker's own report."""

    settled_at: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, jobs: int) -> None:
        """So many jobs ended now."""
        self.settled_at.append((time.monotonic(), jobs))

    def per_s(self, window_s: float = 60.0) -> float:
        """Jobs that ended per second, over the last minute."""
        since = time.monotonic() - window_s
        while self.settled_at and self.settled_at[0][0] < since:
            self.settled_at.popleft()
        return sum(jobs for _, jobs in tuple(self.settled_at)) / window_s


class Batcher:
    """Keeps every child busy with the best batch of what waits in the lanes.

    Args:
        config: the worker's.
        board: shared with the children.
        on_died: called with a dispatch whose child died, or raised what nobody expects of it; calls ``again`` for what should run again.
        on_ready: called once all children have loaded the pool's models, and then at every new connection.
        on_hopeless: called with the error when loading has failed three times.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        config: WorkerConfig,
        board: Board,
        *,
        on_died: Callable[[Dispatch], None],
        on_ready: Callable[[], None],
        on_hopeless: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._board = board
        self._models: dict[str, ModelSpec] = {name: model for name, model in config.catalogue.models_of_pool(config.pool).items() if name not in config.missing}
        self._on_died = on_died
        self._on_ready = on_ready
        self._on_hopeless = on_hopeless
        self._clock = clock
        self._pool: Pool | None = None
        self._connection_errors: tuple[type[BaseException], ...] = ()
        self._later: Callable[[float, Callable[[], None]], object] = lambda _delay_s, _call: None
        self._lanes = Lanes({name: model.max_batch_size for name, model in self._models.items()}, clock)
        self._flush_is_due = False
        self._again: deque[_Again] = deque()
        self._free_places = deque(range(config.concurrency * PLACES_PER_SLOT))
        self._lock = threading.Lock()
        self._active: dict[int, Dispatch] = {}
        self._ghosts: dict[int, Dispatch] = {}
        self._number = 0
        self._probes_out = 0
        self._loaded: set[int] = set()
        self._load_failures = 0
        self.ready = False
        self.stopping = False
        self.tally = Tally()

    # --- the connection

    def rebind(self, pool: Pool, connection_errors: tuple[type[BaseException], ...], later: Callable[[float, Callable[[], None]], object]) -> None:
        """A new connection: what was buffered belongs to the old one and will be delivered again.

        Dispatches that no child has accepted vanished from the pool without a callback; their places in the pool are free again. A child may
        have begun one all the same: it stays a ghost, whose leases are kept until the database shows that it holds nothing.
        """
        self._pool = pool
        self._connection_errors = connection_errors
        self._later = later
        self._lanes.clear()
        self._flush_is_due = False  # its timer died with the connection
        self._probes_out = 0
        with self._lock:
            for number in [number for number, dispatch in self._active.items() if not dispatch.accepted]:
                self._ghosts[number] = self._active.pop(number)

    def begin(self) -> None:
        """The event loop runs: load the models, or go on where the lost connection left things."""
        if self.ready:
            self._on_ready()
            self.flush()
            self._later(AGAIN_AFTER_S, self.flush)  # what was to be tried again in a moment: the timer died with the connection
        else:
            self._probe()

    # --- messages

    def receive(self, message: BrokerMessage) -> None:
        """Takes a message into the buffer; one that this worker cannot read is dropped, and the sweep brings its jobs again."""
        try:
            content = JobsMessage.decode(message.payload[0][0])
            lane = Priority(str(message.delivery_info.get("routing_key")).removeprefix(f"{self._config.pool}."))
        except (UnreadableMessage, ValueError, LookupError, TypeError) as error:
            log.warning("unreadable message dropped", error=str(error))
            self._ack(message)
            return
        if content.model not in self._models or len(content.ids) > MAX_JOBS // 2:
            log.error("message for a model that this pool does not run dropped", model=content.model)
            self._ack(message)
            return
        self._lanes.add(lane, content.model, message, content.ids, solo=content.solo)

    # --- dispatching

    @property
    def dispatches(self) -> list[Dispatch]:
        """All that may hold leases."""
        with self._lock:
            return [*self._active.values(), *self._ghosts.values()]

    @property
    def holdings(self) -> list[tuple[UUID, str]]:
        """(job, owner) of everything that this worker holds or may be about to claim, what waits to run again included."""
        with self._lock:
            dispatched = [(job_id, dispatch.owner) for dispatch in (*self._active.values(), *self._ghosts.values()) for job_id in dispatch.unfinished]
            return dispatched + [(job_id, entry.owner) for entry in self._again for job_id in entry.ids]

    @property
    def busy(self) -> int:
        """Dispatches that children run now."""
        return len(self._active)

    def bury(self, ghost: Dispatch) -> None:
        """Forgets a ghost that holds nothing any more."""
        with self._lock:
            if self._ghosts.get(ghost.place_number) is ghost:
                del self._ghosts[ghost.place_number]
                self._free_places.append(ghost.place_number)

    def is_ghost(self, dispatch: Dispatch) -> bool:
        """Whether the pool no longer knows of a dispatch."""
        return self._ghosts.get(dispatch.place_number) is dispatch

    @contextlib.contextmanager
    def held_still(self, dispatch: Dispatch) -> Iterator[bool]:
        """Whether a dispatch is not over; as long as this is open, neither its place nor its child is given another.

        Other threads look at dispatches that may end at any moment: without this a stop flag could land on the place's next dispatch, a kill on
        the child's next.
        """
        with self._lock:
            yield self._active.get(dispatch.place_number) is dispatch or self.is_ghost(dispatch)

    def flush(self) -> None:
        """Gives every free child a batch, as long as something waits."""
        if not self.ready:
            return
        while not self.stopping and len(self._active) < self._config.concurrency and self._free_places:
            if (entry := self._next_again()) is not None:
                self._dispatch(entry.model, entry.ids, solo=entry.solo, owner=entry.owner, resume=True, acknowledge=entry.acknowledge)
            elif (held_back_s := self._lanes.held_back_s()) > 0:
                if not self._flush_is_due:
                    self._flush_is_due = True
                    self._later(held_back_s, self._flush_held_back)
                return
            elif (batch := self._lanes.take()) is not None:
                lane, model, taken = batch
                ids = tuple(dict.fromkeys(job_id for waiting in taken for job_id in waiting.ids))
                acknowledge = functools.partial(self._acknowledge, lane, taken)
                self._dispatch(model, ids, solo=taken[0].solo, owner=None, resume=False, acknowledge=acknowledge)
            else:
                return

    def _flush_held_back(self) -> None:
        self._flush_is_due = False
        self.flush()

    def again(self, dispatch: Dispatch, groups: Sequence[Sequence[UUID]], *, after_s: float = 0.0) -> None:
        """Runs jobs of a dispatch again, in the same attempt, each group on its own; call it in the event loop's thread.

        The last group takes the messages along: what of it was never claimed is known to the broker alone, should this process die.
        """
        due_at = self._clock() + after_s
        entries = [_Again(dispatch.owner, dispatch.model, tuple(ids), dispatch.solo, due_at, _nothing) for ids in groups if ids]
        if entries:
            entries[-1] = replace(entries[-1], acknowledge=dispatch.acknowledge)
        else:
            dispatch.acknowledge()
        with self._lock:
            self._again.extend(entries)
        if after_s:
            self._later(after_s, self.flush)
        else:
            self.flush()

    def _next_again(self) -> _Again | None:
        with self._lock:
            now = self._clock()
            entry = next((entry for entry in self._again if entry.due_at <= now), None)
            if entry is not None:
                self._again.remove(entry)
            return entry

    def _dispatch(self, model: str, ids: tuple[UUID, ...], *, solo: bool, owner: str | None, resume: bool, acknowledge: Callable[[], None]) -> None:
        assert self._pool is not None
        place_number = self._free_places.popleft()
        place = self._board.place(place_number)
        self._number += 1
        place.clear(self._number)
        dispatch = Dispatch(
            owner=owner or f"{self._config.name}:{self._number}",
            model=model,
            ids=ids,
            solo=solo,
            resume=resume,
            place=place,
            place_number=place_number,
            acknowledge=acknowledge,
        )
        with self._lock:
            self._active[place_number] = dispatch

        def accepted(_pid: int, _at: float) -> None:
            dispatch.accepted = True

        result = self._pool.apply_async(
            run_dispatch,
            (str(self._config.run_dir), place_number, dispatch.owner, model, ids, solo, resume, self._number),
            accept_callback=accepted,
            callback=lambda settled: self._done(dispatch, settled),
            error_callback=lambda info: self._failed(dispatch, info),
        )
        if result is None:  # the pool is closing; the message goes back to the broker with the connection
            self._remove(dispatch)

    def _done(self, dispatch: Dispatch, settled: int) -> None:
        self._load_failures = 0
        self.tally.add(settled)
        self._remove(dispatch)
        dispatch.acknowledge()
        self.flush()

    def _failed(self, dispatch: Dispatch, info: Any) -> None:
        """The child died, or raised outside ``infer``: the database was away, a model did not load, or something nobody expects.

        A worker that stops acknowledges nothing here: what was claimed is given back, and what was not comes again with its message.
        """
        died = issubclass(info.type, WorkerLostError)
        log.warning("dispatch failed", model=dispatch.model, jobs=len(dispatch.ids), died=died, killed=dispatch.kill, error=_last_line(info))
        self._remove(dispatch, keep_place=True)
        if not died:
            dispatch.raised = _last_line(info)
        claimed_nothing = len(dispatch.jobs_in(Progress.UNKNOWN)) == len(dispatch.ids)
        try:
            if not issubclass(info.type, _PASSING):
                self._on_died(dispatch)
            elif not self.stopping:
                self.again(dispatch, [dispatch.unfinished], after_s=AGAIN_AFTER_S)
        finally:
            with self._lock:
                self._free_places.append(dispatch.place_number)
        if issubclass(info.type, ModelNotLoaded) or (died and claimed_nothing and dispatch.place.pid and dispatch.kill is None):
            self._load_failed(info)  # a runtime may also bring its process down as it loads
        self.flush()

    def _remove(self, dispatch: Dispatch, *, keep_place: bool = False) -> None:
        with self._lock:
            if self._active.get(dispatch.place_number) is dispatch:
                del self._active[dispatch.place_number]
            if not keep_place:
                self._free_places.append(dispatch.place_number)

    def _acknowledge(self, lane: Priority, taken: Sequence[Waiting]) -> None:
        self._lanes.acknowledged(lane)
        for waiting in taken:
            self._ack(waiting.message)

    def _ack(self, message: BrokerMessage) -> None:
        with contextlib.suppress(*self._connection_errors):  # of a connection that is gone; the message comes again, and is dropped
            message.ack()

    # --- readiness

    def _probe(self) -> None:
        assert self._pool is not None
        while self._probes_out < self._config.concurrency - len(self._loaded) and not self.stopping:
            self._probes_out += 1
            self._pool.apply_async(
                load_models,
                (str(self._config.run_dir), tuple(self._models)),
                callback=self._probe_succeeded,
                error_callback=self._probe_failed,
            )

    def _probe_succeeded(self, pid: int) -> None:
        self._probes_out -= 1
        self._loaded.add(pid)
        if self._probes_out == 0 and not self.ready:
            # Two probes may have met the same child; the others load on their first batch. One loaded child is proof enough.
            self.ready = True
            log.info("models loaded", pool=self._config.pool, models=sorted(self._models))
            self._on_ready()

    def _probe_failed(self, info: Any) -> None:
        self._probes_out -= 1
        self._load_failed(info)
        if self._load_failures < MAX_LOAD_FAILURES and self._probes_out == 0:
            self._probe()

    def _load_failed(self, info: Any) -> None:
        self._load_failures += 1
        log.error("a model did not load", pool=self._config.pool, failures=self._load_failures, error=_last_line(info))
        if self._load_failures >= MAX_LOAD_FAILURES:
            self._on_hopeless(_last_line(info))

    # --- what the watchdog asks

    def kill_reason(self, dispatch: Dispatch, *, cancel_kill_s: float, drained: bool) -> Kill | None:
        """Why a dispatch's child should be killed now, or None."""
        running = [index for index in range(len(dispatch.ids)) if dispatch.place.progress(index) is Progress.RUNNING]
        if drained:
            return Kill.DRAINED
        if not running:
            dispatch.stopped_since = None
            return None
        if dispatch.place.over_time:
            return Kill.OVER_TIME
        if all(dispatch.place.stopped(index) for index in running):
            dispatch.stopped_since = dispatch.stopped_since or time.monotonic()
            return Kill.CANCELED if time.monotonic() - dispatch.stopped_since > cancel_kill_s else None
        dispatch.stopped_since = None
        return None


def _nothing() -> None:
    """Acknowledges no message."""


def _last_line(info: Any) -> str:
    lines = str(info.exception).strip().strip('"').strip().splitlines()
    return lines[-1][:500] if lines else info.type.__name__
