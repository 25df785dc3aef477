"""The maintenance process: every duty in a thread of its own. Any number of these processes may run."""

import signal
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import structlog

from broker.sender import BrokerAway
from models.transactions import DatabaseAway, LockedRow
from storage.objects import StoreAway

log = structlog.get_logger(__name__)

STOP_WITHIN_S = 2.0
PAUSE_S = 0.5  # after a pass that failed; doubled while passes go on failing
MAX_PAUSE_S = 5.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class Counts(Protocol):
    """What a pass did."""

    @property
    def more(self) -> bool:
        """Whether the next pass should come at once."""


class Duty(Protocol):
    """Something that must be done again and again."""

    @property
    def name(self) -> str:
        """How logs call it."""

    @property
    def every_s(self) -> float:
        """The pause after a pass that found little."""

    def run_once(self) -> Counts:
        """One pass."""

    def stop(self) -> None:
        """Asks a pass that is under way to end soon; called from another thread."""

    def close(self) -> None:
        """Lets go of what the duty holds open, after its last pass."""


class MaintenanceProcess:
    """Runs duties side by side; a pass that fails is logged, followed by a pause, and ends nothing else.

    What a duty was about to do when the process dies is found again by the next one's passes: nothing is kept in memory.

    Args:
        duties: each gets a thread.
        pause_s: after a failed pass, doubled up to ``max_pause_s`` while passes go on failing.
        max_pause_s: the longest pause.
    """

    def __init__(self, duties: Sequence[Duty], *, pause_s: float = PAUSE_S, max_pause_s: float = MAX_PAUSE_S) -> None:
        self._duties = tuple(duties)
        self._pause_s = pause_s
        self._max_pause_s = max_pause_s
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(duty,), name=duty.name, daemon=True) for duty in self._duties]

    def run(self) -> None:
        """Starts all duties, waits for SIGTERM or SIGINT, and stops them; call it in the main thread.

        The signals are blocked and waited for, in place of a handler: a handler may run while a lock it needs is held.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self.start()
        log.info("maintenance runs", duties=[duty.name for duty in self._duties])
        received = signal.sigwait(_SIGNALS)
        log.info("maintenance stops", signal=signal.Signals(received).name)
        self.stop()

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = STOP_WITHIN_S) -> bool:
        """Ends the duties between two passes; gives up on those that take over ``timeout_s`` (the threads are daemons).

        Returns:
            Whether all have ended.
        """
        self._stopping.set()
        for duty in self._duties:
            duty.stop()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        late = [thread.name for thread in self._threads if thread.is_alive()]
        if late:
            log.warning("duties did not end in time", duties=late)
        return not late

    def _run(self, duty: Duty) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                counts = duty.run_once()
            except Exception as error:  # noqa: BLE001 - one bad pass must not end the process
                failures += 1
                pause_s = min(self._max_pause_s, self._pause_s * 2.0 ** min(failures - 1, 16))
                _report(duty, error, failures)
            else:
                if failures:
                    log.info("duty works again", duty=duty.name, failed_passes=failures)
                failures = 0
                pause_s = 0.0 if counts.more else duty.every_s
            self._stopping.wait(pause_s)
        duty.close()


def _report(duty: Duty, error: Exception, failures: int) -> None:
    """An outage is one line when it begins; anything else is a defect, and each is shown whole."""
    if not isinstance(error, BrokerAway | DatabaseAway | LockedRow | StoreAway):
        log.error("a pass failed", duty=duty.name, exc_info=error)
    elif failures == 1:
        log.warning("a pass failed; trying again", duty=duty.name, error=f"{type(error).__name__}: {error}"[:300])
