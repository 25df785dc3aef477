"""What the embedded servers have in common: made ready, started, asked, stopped."""

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from cli.embedded.child import Child, Spec, StartFailed
from cli.embedded.processes import stop_in_order
from cli.embedded.state import StateFolder

START_TIMEOUT_S = 60.0  # recovery after a crash reads what was not yet checkpointed, at most max_wal_size
_LOOK_EVERY_S = 0.02


class EmbeddedServer(ABC):
    """A server of our own on 127.0.0.1, with a port and a password that the state folder keeps.

    ``millpond up`` runs ``prepare()``'s answer under its supervisor; ``start`` and ``stop`` are for whoever needs the server alone.
    """

    def __init__(self, state: StateFolder) -> None:
        self.state = state
        self._child: Child | None = None

    @abstractmethod
    def prepare(self) -> Spec:
        """Makes what the first start needs, settles the port, and says what to run.

        Raises:
            ConfigurationError: there is no such server on this machine, or it does not fit what the state folder holds.
        """

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers, with the password; known once it is prepared."""

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            ConfigurationError: as ``prepare``.
            StartFailed: it ended, or did not answer in time; with the last lines of its log.
        """
        self.state.create()
        child = self._child = Child(self.prepare(), self.state.logs)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.ready():
            if child.exit_code() is not None or time.monotonic() > deadline:
                self.stop()
                raise StartFailed(f"{child.spec.name} {child.how_it_ended()} before it was ready\n{child.last_words()}")
            time.sleep(_LOOK_EVERY_S)

    def stop(self) -> None:
        """Stops it in good order, or else by force; does nothing if it does not run."""
        if self._child is not None:
            child, self._child = self._child, None
            stop_in_order([child.process], reap=child.exit_code)

    def kill(self) -> None:
        """Ends it as a crash does."""
        if self._child is not None:
            child, self._child = self._child, None
            child.process.kill_session()
            while child.exit_code() is None:
                time.sleep(_LOOK_EVERY_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
