"""Processes seen from outside, by number and time of birth: a stranger that got a dead one's number is never touched.

Each process that is started here leads a session of its own. So Ctrl-C reaches the parent alone, and whatever the process
started can be found and ended with it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_PROC = Path("/proc")
_BOOT = _PROC / "sys/kernel/random/boot_id"
_LOOK_EVERY_S = 0.05
DRAIN_S = 7.0  # DESIGN §6; with what follows it stays under the 10 s that a stop may take
_DATABASE_STOP_S = 1.5
_DATABASE_QUIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Process:
    """One process, possibly gone.

    Attributes:
        name: what it is for.
        pid: its number; also that of its session.
        born: when it was started, as this system tells it; empty if it was gone already.
        stop_signal: what asks it to stop in good order.
        is_database: whether the others need it, so that it stops last.
    """

    name: str
    pid: int
    born: str
    stop_signal: int = signal.SIGTERM
    is_database: bool = False

    @classmethod
    def of(cls, name: str, pid: int, *, stop_signal: int = signal.SIGTERM, is_database: bool = False) -> "Process":
        """The process that has this number now."""
        return cls(name, pid, _born(pid), stop_signal, is_database)

    def as_dict(self) -> dict[str, object]:
        """As JSON holds it."""
        return asdict(self)

    def alive(self) -> bool:
        """Whether it still runs; one that has ended and waits for its parent to notice does not."""
        return bool(self.born) and _born(self.pid) == self.born

    def send(self, number: int) -> None:
        """Sends it a signal, if it still runs."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def kill_session(self) -> None:
        """Kills it and everything in its session, also when it is gone itself and left something behind."""
        members = True
        while members:
            members = False
            for pid in self._session():
                try:
                    os.kill(pid, signal.SIGKILL)
                    members = True  # it may have started another one meanwhile: look again
                except ProcessLookupError:
                    continue

    def _session(self) -> list[int]:
        """The live processes of its session; none if its number has passed to somebody else."""
        born = _born(self.pid)
        if not self.born or (born and born != self.born) or _boot(self.born) != _boot_now():
            return []
        if not _PROC.is_dir():
            return _process_group(self.pid)
        return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _in_session(entry, self.pid)]


def stop_in_order(
    processes: Sequence[Process],
    *,
    drain_s: float = DRAIN_S,
    hurry: Callable[[], bool] = lambda: False,
    reap: Callable[[], object] = lambda: None,
    after_kill: Callable[[Sequence[Process]], None] = lambda _: None,
) -> None:
    """Stops what does the work, then what it works on.

    Everything but the databases is asked to stop and has ``drain_s`` to do so; then it is killed with its whole session. The
    databases are asked last, then told to drop everything (what was committed is on disk), then killed.

    Args:
        processes: in any order; those that are gone are passed over, but what they left in their sessions is killed.
        drain_s: how long work under way may take to finish.
        hurry: whether to wait no longer.
        reap: called while waiting: takes notice of children that have ended.
        after_kill: is told who had to be killed, while the databases still run.
    """
    databases = [process for process in processes if process.is_database]
    workers = [process for process in processes if not process.is_database]
    for process in workers:
        process.send(process.stop_signal)
    slow = _wait_for(workers, drain_s, hurry, reap)
    for process in workers:
        process.kill_session()
    _wait_for(workers, _DATABASE_QUIT_S, lambda: False, reap)
    after_kill(slow)
    for database in databases:
        database.send(database.stop_signal)
    for database in _wait_for(databases, _DATABASE_STOP_S, lambda: False, reap):
        database.send(signal.SIGQUIT)  # PostgreSQL's "immediate": its children end with it, which SIGKILL would not see to
    for database in _wait_for(databases, _DATABASE_QUIT_S, lambda: False, reap):
        database.kill_session()
    _wait_for(databases, _DATABASE_QUIT_S, lambda: False, reap)


def _wait_for(processes: Iterable[Process], timeout_s: float, hurry: Callable[[], bool], reap: Callable[[], object]) -> list[Process]:
    """Those that still run after so long."""
    deadline = time.monotonic() + timeout_s
    while True:
        reap()
        left = [process for process in processes if process.alive()]
        if not left or hurry() or time.monotonic() >= deadline:
            return left
        time.sleep(_LOOK_EVERY_S)


def _boot_now() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _boot(born: str) -> str:
    return born.partition("/")[0]


def _born(pid: int) -> str:
    """When a process was started, with the boot of the system; empty if it does not run."""
    if _PROC.is_dir():
        fields = _stat(_PROC / str(pid))
        return "" if not fields or fields[0] in "ZX" else f"{_boot_now()}/{fields[19]}"
    # macOS has no /proc, and `lstart` is a date: there is no boot to add
    line = subprocess.run(["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}).stdout  # noqa: S603  # a list, no shell
    state, _, started = line.strip().partition(" ")
    return "" if not state or state.startswith("Z") else f"/{started.strip()}"


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/…/stat from the third, the state, on (proc(5)); none if the process is gone."""
    try:
        text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _in_session(folder: Path, session: int) -> bool:
    fields = _stat(folder)
    return bool(fields) and fields[0] not in "ZX" and int(fields[3]) == session


def _process_group(group: int) -> list[int]:
    listed = subprocess.run(["/bin/ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=False).stdout
    return list(_members(listed, group))


def _members(listed: str, group: int) -> Iterator[int]:
    for line in listed.splitlines():
        pid, pgid, state = line.split()[:3]
        if int(pgid) == group and not state.startswith("Z"):
            yield int(pid)
