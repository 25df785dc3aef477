"""Keeps a busy process on one CPU at a time.

Under one interpreter lock its threads take turns, so a second CPU gives them next to nothing, while each turn that wakes on the other one finds the
caches cold. ``docs/decisions/0017-one-cpu.md`` has the measurements.
"""

import os
import random
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

EVERY_S = 0.25  # between two looks, a quarter more or less: processes of one machine look at different moments
BUSY_CPUS = 0.35  # a process that uses so much of a CPU is kept to one
IDLE_CPUS = 0.2  # one that uses less than this goes wherever there is room at once
MANY_CPUS = 1.2  # one that uses more does so outside of the lock, and is left alone
WORTH_CPUS = 0.2  # how much more room another CPU must have to be worth the cold caches
_CPU_TIMES = Path("/proc/stat")
_OWN = Path("/proc/self")
_IDLE, _IOWAIT = 4, 5  # fields of a CPU's line there


def keep_to_one_cpu() -> None:
    """Begins to look after this process, where the system is Linux and shows the CPUs as they are."""
    with suppress(OSError):
        if _CPU_TIMES.stat().st_dev == _OWN.stat().st_dev:  # else a container's own file system counts them in its own way
            threading.Thread(target=_OneCpu().run, name="one-cpu", daemon=True).start()


def choose(room: Mapping[int, float], here: int | None, own: float) -> int:
    """The CPU for the next while.

    Args:
        room: of each CPU that the process may use, which part of it was idle.
        here: the one that the process is kept to; None where it is kept to none.
        own: how many CPUs the process used: of the one that it is kept to, this is room too.
    """
    best = max(room, key=lambda cpu: (room[cpu], random.random()))  # noqa: S311 - breaks ties, so that several processes part
    return here if here is not None and here in room and room[here] + own + WORTH_CPUS >= room[best] else best


class _Look(NamedTuple):
    """What is so at one moment: the time, how much CPU the process has used, how long each CPU has been idle."""

    at_s: float
    used_s: float
    idle_s: Mapping[int, float]


class _OneCpu:
    """The thread that looks. It is kept nowhere itself, so the CPUs that it may use are those that the process may, whatever becomes of them."""

    def __init__(self) -> None:
        self._here: int | None = None
        self._kept: set[int] = set()  # threads that are kept there

    def run(self) -> None:
        """Looks and decides until the process ends; where a look fails, the process goes wherever the system puts it."""
        before: _Look | None = None
        while True:
            try:
                now = _Look(time.monotonic(), time.process_time(), _idle_s())
                if before is not None:
                    took_s = now.at_s - before.at_s
                    room = {cpu: (now.idle_s[cpu] - before.idle_s[cpu]) / took_s for cpu in os.sched_getaffinity(0)}
                    self._decide(room, (now.used_s - before.used_s) / took_s)
                before = now
            except (OSError, KeyError, ValueError):  # a CPU was taken away, no descriptor is free, the sandbox forbids it
                before = None
                with suppress(OSError):
                    self._go(None)
            time.sleep(EVERY_S * random.uniform(0.75, 1.25))  # noqa: S311

    def _decide(self, room: Mapping[int, float], used: float) -> None:
        if len(room) > 1 and (BUSY_CPUS <= used <= MANY_CPUS if self._here is None else used >= IDLE_CPUS):
            self._go(choose(room, self._here, used))
        elif self._here is not None:
            self._go(None)

    def _go(self, cpu: int | None) -> None:
        """Keeps the other threads to a CPU, those too that came since the last look; None lets them all go."""
        cpus: Collection[int] = os.sched_getaffinity(0) if cpu is None else {cpu}
        if cpu != self._here:
            self._kept.clear()
        while new := _other_threads() - self._kept:  # one that starts meanwhile has the CPUs of the one that starts it
            self._kept |= new
            for thread in new:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(thread, cpus)
        self._here = cpu


def _other_threads() -> set[int]:
    return {int(entry.name) for entry in os.scandir(_OWN / "task")} - {threading.get_native_id()}


def _idle_s() -> dict[int, float]:
    """How long each CPU has been idle since the machine started, in seconds."""
    ticks_per_s, idle = os.sysconf("SC_CLK_TCK"), {}
    for line in _CPU_TIMES.read_text("ascii").splitlines():
        fields = line.split()
        if fields and fields[0].startswith("cpu") and fields[0] != "cpu":
            idle[int(fields[0][3:])] = (int(fields[_IDLE]) + int(fields[_IOWAIT])) / ticks_per_s
    return idle
