"""Keeps a busy process on one CPU at a time.

Under one interpreter lock its threads take turns, so a second CPU gives them next to nothing, while each turn that wakes on the other one finds the
caches cold. ``docs/decisions/0017-one-cpu.md`` has the measurements.
"""

import os
import random
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

EVERY_S = 0.25  # between two looks, a quarter more or less: processes of one machine look at different moments
BUSY_CPUS = 0.35  # a process that uses so much of a CPU is kept to one
IDLE_CPUS = 0.2  # one that uses less than this goes wherever there is room at once
WORTH_CPUS = 0.2  # how much more room another CPU must have to be worth the cold caches
_CPU_TIMES = Path("/proc/stat")
_OWN_THREADS = Path("/proc/self/task")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IDLE, _IOWAIT = 4, 5  # fields of a CPU's line there


def keep_to_one_cpu() -> None:
    """Begins to look after this process, where the system is Linux and the process may use several CPUs."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(allowed) > 1 and _CPU_TIMES.exists():
        threading.Thread(target=_OneCpu(allowed).run, name="one-cpu", daemon=True).start()


def choose(room: Mapping[int, float], here: int | None, own: float) -> int:
    """The CPU for the next while.

    Args:
        room: of each allowed CPU, which part of it was idle.
        here: the one that the process is kept to; None where it is kept to none.
        own: how many CPUs the process used: of the one that it is kept to, this is room too.
    """
    best = max(room, key=lambda cpu: (room[cpu], random.random()))  # noqa: S311 - breaks ties, so that several processes part
    return here if here is not None and room[here] + own + WORTH_CPUS >= room[best] else best


class _OneCpu:
    """The thread that looks.

    Args:
        allowed: the CPUs that the process may use.
    """

    def __init__(self, allowed: Collection[int]) -> None:
        self._allowed = frozenset(allowed)
        self._here: int | None = None

    def run(self) -> None:
        """Looks and decides until the process ends, or until what it was allowed is no longer so."""
        then, idle, own = time.monotonic(), _idle_s(), time.process_time()
        while True:
            time.sleep(EVERY_S * random.uniform(0.75, 1.25))  # noqa: S311
            now, idle_now, own_now = time.monotonic(), _idle_s(), time.process_time()
            room = {cpu: (idle_now[cpu] - idle[cpu]) / (now - then) for cpu in self._allowed if cpu in idle_now and cpu in idle}
            used = (own_now - own) / (now - then)
            then, idle, own = now, idle_now, own_now
            try:
                self._decide(room, used)
            except OSError:  # a CPU was taken away, or the sandbox forbids it: as it would be without us
                return

    def _decide(self, room: Mapping[int, float], used: float) -> None:
        if room and used >= (BUSY_CPUS if self._here is None else IDLE_CPUS):
            self._go(choose(room, self._here, used))
        elif self._here is not None:
            self._go(None)

    def _go(self, cpu: int | None) -> None:
        """Keeps every thread to a CPU, those too that came since the last look; None lets them all go."""
        self._here = cpu
        cpus = self._allowed if cpu is None else {cpu}
        for thread in _OWN_THREADS.iterdir():
            try:
                os.sched_setaffinity(int(thread.name), cpus)
            except ProcessLookupError:
                continue  # it has ended meanwhile


def _idle_s() -> dict[int, float]:
    """How long each CPU has been idle since the machine started, in seconds."""
    idle = {}
    for line in _CPU_TIMES.read_text("ascii").splitlines():
        fields = line.split()
        if fields and fields[0].startswith("cpu") and fields[0] != "cpu":
            idle[int(fields[0][3:])] = (int(fields[_IDLE]) + int(fields[_IOWAIT])) / _TICKS_PER_S
    return idle
