"""A process that is started here: in a session of its own, with its output in a log of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.embedded.processes import Process
from domain.errors import MillpondError

_LOG_LIMIT_BYTES = 16 * 1_048_576
_LAST_LINES = 12
_LAST_BYTES = 1_500  # so that they fit into an error's message with what stands before them


class StartFailed(MillpondError):
    """A process that Millpond needs does not start, or does not stay."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run.

    Attributes:
        name: of the log, and in messages.
        environment: the whole of it.
        stop_signal: what asks it to stop in good order.
        is_database: whether the others need it, so that it stops last.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    stop_signal: int = signal.SIGTERM
    is_database: bool = False
    cwd: Path | None = None


class Child:
    """A process that was started from a spec.

    Attributes:
        spec: what was run.
        process: it, as others may see it.
        started_at: monotonic time of its start.
        log: where its output goes.
    """

    def __init__(self, spec: Spec, logs: Path) -> None:
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            self._log_start = output.tell()
            try:
                self._popen = subprocess.Popen(  # noqa: S603  # a list, no shell
                    spec.command,
                    env=dict(spec.environment),
                    cwd=spec.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartFailed(f"{spec.name} cannot be started: {error}") from error
        self.started_at = time.monotonic()
        self.process = Process.of(spec.name, self._popen.pid, stop_signal=spec.stop_signal, is_database=spec.is_database)

    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._popen.poll()

    def how_it_ended(self) -> str:
        """In words, once it has."""
        code = self._popen.returncode
        if code is None:
            return "runs"
        return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def last_words(self) -> str:
        """The last lines of its log since it was started, indented; and where the rest is."""
        return "\n".join([*(f"    {line}" for line in self._last_lines()), f"its log: {self.log}"])

    def last_line(self) -> str:
        """The last of them alone: what a command that ends says of the reason."""
        return next(reversed(self._last_lines()), "").removeprefix("millpond: ")

    def _last_lines(self) -> list[str]:
        with self.log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(self._log_start, end - _LAST_BYTES))
            return stream.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
