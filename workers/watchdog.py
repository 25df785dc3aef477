"""Kills children that run over their time, ignore that nobody wants their work, or outlast the drain.

A thread of its own, since the event loop stands still while the broker is away. The pool notices the death, and the batcher
learns of it as of any other.
"""

import contextlib
import os
import signal
import threading
import time

import structlog

from workers.batcher import Batcher
from workers.config import WorkerConfig
from workers.dispatch import Dispatch, Kill

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.2


class Watchdog(threading.Thread):
    """Looks at every dispatch five times a second."""

    def __init__(self, config: WorkerConfig, batcher: Batcher) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._config = config
        self._batcher = batcher
        self._stopping = threading.Event()
        self._drain_until: float | None = None

    def run(self) -> None:
        """Looks until stopped."""
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception:  # without this thread nothing is ever over its time
                log.exception("a look at the dispatches failed")

    def drain(self) -> None:
        """The worker stops: what still runs after ``drain_s`` is killed, and its jobs given back."""
        self._drain_until = time.monotonic() + self._config.drain_s

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()

    def look(self) -> None:
        """One look at every dispatch."""
        drained = self._drain_until is not None and time.monotonic() > self._drain_until
        for dispatch in self._batcher.dispatches:
            with self._batcher.held_still(dispatch) as lives:
                reason = self._judge(dispatch, drained=drained) if lives else None
                if reason is None:
                    continue
                dispatch.kill = reason
                pid = dispatch.place.pid
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            log.warning("killed a child", pid=pid, reason=reason, model=dispatch.model, jobs=len(dispatch.ids))

    def _judge(self, dispatch: Dispatch, *, drained: bool) -> Kill | None:
        if not dispatch.place.pid or dispatch.kill is not None or not dispatch.unfinished:
            return None
        return self._batcher.kill_reason(dispatch, cancel_kill_s=self._config.cancel_kill_s, drained=drained)
