"""Processes that are measured: started in sessions of their own, stopped to the last child."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from benchmarks.harness.load import BenchmarkFailed

ROOT = Path(__file__).resolve().parents[2]
STOP_WITHIN_S = 20.0
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process and its children hold.

    Attributes:
        rss_mib: the sum of what each sees as its own; pages that they share count for each.
        pss_mib: the same with shared pages divided among those who share them.
    """

    rss_mib: float
    pss_mib: float

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.rss_mib + other.rss_mib, self.pss_mib + other.pss_mib)


class Process:
    """``python -m …`` with an environment of its own; what it prints goes to a file that is shown if it fails."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], *, python: str = sys.executable) -> None:
        self.name = name
        handle, log = tempfile.mkstemp(prefix="millpond-bench-", suffix=".log")
        self._log = Path(log)
        with os.fdopen(handle, "wb") as output:
            self._process = subprocess.Popen(
                [python, "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def check(self) -> None:
        """Makes sure that it runs.

        Raises:
            BenchmarkFailed: it has ended; the message has its last words.
        """
        if self._process.poll() is not None:
            raise BenchmarkFailed(f"{self.name} ended with {self._process.returncode}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of what it printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def memory(self) -> Memory:
        """Of the process and all its children, now."""
        total = Memory(0, 0)
        with suppress(psutil.NoSuchProcess):
            for process in self._tree():
                with suppress(psutil.NoSuchProcess):
                    held = process.memory_full_info()
                    total += Memory(held.rss / _MIB, held.pss / _MIB)
        return total

    def cpu_s(self) -> float:
        """CPU time that the process and its living children have taken."""
        total_s = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total_s += times.user + times.system
        return total_s

    def stop(self) -> None:
        """Asks it to end, and kills what is left of its session after a while."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._kill()
        self._kill()  # children that outlived it
        self._process.wait()
        self._log.unlink(missing_ok=True)

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _tree(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def let_settle(seconds: float = 1.0) -> None:
    """Gives the machine a moment between two measurements."""
    time.sleep(seconds)
