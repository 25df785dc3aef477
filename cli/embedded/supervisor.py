"""Runs the processes of one machine under one parent: starts them, starts again what dies, stops all in order."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self, TypeVar

from cli.embedded.child import Child, Spec, StartFailed
from cli.embedded.processes import DRAIN_S, Process, stop_in_order
from cli.embedded.state import StateFolder

_LOOK_EVERY_S = 0.05
_SERVING_LOOK_EVERY_S = 0.25
_EARLY_S = 10.0  # a process that ends sooner after its start has done no work: most likely it cannot
_MOST_EARLY_DEATHS = 4
_LONGEST_PAUSE_S = 15.0
_WRONG_CONFIGURATION = 2  # our commands' exit code for it (and click's for wrong options): trying again cannot help
_UNABLE = 3  # our worker's exit code where its models cannot be loaded
_CLEARING_S = 15.0  # how long a guard may take to clear away behind a dead parent: it stops in order too
_ECHO_S = 1.0  # shells and wrappers may repeat one Ctrl-C; only one that comes later is meant as another

T = TypeVar("T")
StopSignals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Somebody pressed Ctrl-C or sent a signal: unwinds to the supervisor's ``with``, which stops everything and ends quietly."""


class Supervisor:
    """The parent of all processes of one state folder; used as a context manager from the main thread.

    On entry it takes the folder, clears away what a dead parent left there, and starts its guard. On exit, by whatever way, it
    stops everything in order within 10 s: a ``StopRequested`` ends here.

    Args:
        state: the folder.
        say: is told, a line at a time, what a person should know.
        release_leases: (may be set later) is told which workers had to be killed, while the database still answers; gives back the jobs that ran in them.
        leave_out: (may be set later) is told of a process that says at its first start that it cannot run here; it is not started again. Until it is set
            such a process is one that dies.
        drain_s: how long work under way may take to finish at the stop.
        first_pause_s: before what died is started again; doubles with each early death.
    """

    def __init__(
        self,
        state: StateFolder,
        *,
        say: Callable[[str], None],
        release_leases: Callable[[Sequence[Process]], None] = lambda _: None,
        leave_out: Callable[[Child], None] | None = None,
        drain_s: float = DRAIN_S,
        first_pause_s: float = 0.5,
    ) -> None:
        self.state = state
        self._say = say
        self.release_leases = release_leases
        self.leave_out = leave_out
        self._drain_s = drain_s
        self._first_pause_s = first_pause_s
        self._children: dict[str, _Kept] = {}
        self._guard: subprocess.Popen[bytes] | None = None
        self._interruptible = False
        self._signals: list[float] = []
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in StopSignals:
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self._interruptible = False
        if self._guard is not None:  # else the folder is somebody else's
            self._stop(self._guard)
        self.state.release()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us it takes back
        return kind is StopRequested

    def take_folder(self) -> None:
        """Takes the state folder, clears away what a killed run left in it, and starts the guard.

        Raises:
            ConfigurationError: another run has the folder, or it cannot be written.
        """
        self._interruptible = True  # from here on, __exit__ sees to everything
        self.state.create()
        self.state.acquire(_patience(self._say))
        with self._undisturbed():
            left = self.state.recorded()  # by a guard that was killed as well; or else nothing
            if any(process.alive() for process in left):
                self._say("clearing away what a killed run left behind …")
            stop_in_order(left)
            self.state.record(())
            self._guard = self._start_guard()

    def start(self, spec: Spec) -> None:
        """Starts a process and keeps it running from now on, as long as ``watch`` or ``wait_until`` is called.

        One of the same name that runs already is killed first, with its session: the new one takes its place.

        Raises:
            StartFailed: its program cannot be run.
        """
        if (before := self._children.get(spec.name)) is not None:
            before.child.process.kill_session()
            before.child.exit_code()
        self._children[spec.name] = _Kept(spec, self._spawn(spec))

    def run(self, spec: Spec) -> None:
        """Runs a process to its end, and watches the others meanwhile.

        Raises:
            StartFailed: it failed; with its last lines.
        """
        child = self._spawn(spec)
        try:
            while child.exit_code() is None:
                self.watch()
                time.sleep(_LOOK_EVERY_S)
        finally:
            child.process.kill_session()
        if child.exit_code() != 0:
            raise StartFailed(f"{spec.name} {child.how_it_ended()}\n{child.last_words()}")

    def wait_until(self, condition: Callable[[], bool], *, timeout_s: float, what: str, every_s: float = _LOOK_EVERY_S) -> None:
        """Watches over the processes until something is so.

        Args:
            condition: asked every ``every_s`` seconds.
            timeout_s: for how long.
            what: what is waited for, for the message.
            every_s: seconds between two looks.

        Raises:
            StartFailed: it was not within the time, or a process cannot be kept running.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            self.watch()
            if time.monotonic() > deadline:
                raise StartFailed(f"{what}: not done within {timeout_s:.0f} s; the logs are in {self.state.logs}")
            time.sleep(every_s)

    def meanwhile(self, work: Callable[[], T]) -> T:
        """Watches over the processes while something else is done, in a thread that nobody waits for if a signal comes.

        Raises:
            StartFailed: a process cannot be kept running; or whatever ``work`` raises.
        """
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised again below, in the main thread
                outcome.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        while not outcome.done():
            self.watch()
            time.sleep(_LOOK_EVERY_S)
        return outcome.result()

    def serve(self) -> None:
        """Watches over the processes until a signal comes."""
        while True:
            self.watch()
            time.sleep(_SERVING_LOOK_EVERY_S)

    def watch(self) -> None:
        """Notices what has ended and starts it again when its pause is over.

        Raises:
            StartFailed: a process ends again and again, or says itself that its configuration is wrong.
        """
        for name in list(self._children):
            kept = self._children[name]
            if kept.resume_at is not None:
                if time.monotonic() >= kept.resume_at:
                    kept.child = self._spawn(kept.spec)
                    kept.resume_at = None
                    kept.is_first = False
            elif kept.child.exit_code() is not None:
                kept.child.process.kill_session()  # what it started is of no use without it
                if kept.is_first and kept.child.exit_code() == _UNABLE and self.leave_out is not None:
                    del self._children[name]
                    self.leave_out(kept.child)
                else:
                    self._died(kept)
        if self._guard is not None and self._guard.poll() is not None:
            self._guard.communicate()
            if self._guard.returncode >= 0:  # it ends by itself only after its parent
                raise StartFailed(f"the guard does not run; its log: {self._guard_log}")
            with self._undisturbed():
                self._guard = self._start_guard()

    def _died(self, kept: "_Kept") -> None:
        child = kept.child
        early = time.monotonic() - child.started_at < _EARLY_S
        kept.early_deaths = kept.early_deaths + 1 if early else 0
        if child.exit_code() == _WRONG_CONFIGURATION or kept.early_deaths >= _MOST_EARLY_DEATHS:
            again = f" {kept.early_deaths} times in a row, each within {_EARLY_S:.0f} s of its start" if kept.early_deaths > 1 else ""
            raise StartFailed(f"{kept.spec.name} {child.how_it_ended()}{again}\n{child.last_words()}")
        pause_s = min(self._first_pause_s * 2 ** max(0, kept.early_deaths - 1), _LONGEST_PAUSE_S)
        kept.resume_at = time.monotonic() + pause_s
        self._say(f"{kept.spec.name} {child.how_it_ended()}; starting it again in {pause_s:g} s (its log: {child.log})")

    def _spawn(self, spec: Spec) -> Child:
        with self._undisturbed():  # a process that runs is on the record
            child = Child(spec, self.state.logs)
            running = [kept.child.process for kept in self._children.values() if kept.spec.name != spec.name and kept.resume_at is None]
            self.state.record([*running, child.process])
        return child

    @property
    def _guard_log(self) -> Path:
        return self.state.logs / "guard.log"

    def _start_guard(self) -> "subprocess.Popen[bytes]":
        with self._guard_log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  # a list, no shell
                [sys.executable, "-m", "cli.embedded.guard", str(self.state.root)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[self.state.lock],
                start_new_session=True,
            )

    def _stop(self, guard: "subprocess.Popen[bytes]") -> None:
        processes = [kept.child.process for kept in self._children.values()]
        if processes:
            self._say("Stopping: what runs may finish for some seconds; once more Ctrl-C to stop at once.")
        told_at = self._signals[0] if self._signals else time.monotonic()

        def hurry() -> bool:
            return any(at - told_at > _ECHO_S for at in self._signals)

        def reap() -> None:
            for kept in self._children.values():
                kept.child.exit_code()

        stop_in_order(processes, drain_s=self._drain_s, hurry=hurry, reap=reap, after_kill=self._after_kill)
        reap()
        self.state.record(())
        guard.communicate()  # closes its input: it finds nothing on the record and ends

    def _after_kill(self, killed: Sequence[Process]) -> None:
        if killed:
            self._say(f"killed, after {self._drain_s:g} s: {', '.join(process.name for process in killed)}")
            try:
                self.release_leases(killed)
            except Exception as error:  # noqa: BLE001 - the stop goes on; the reaper takes the leases away later
                self._say(f"their jobs could not be given back now ({error}); they are when their leases end")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals.append(time.monotonic())
        if self._interruptible:
            self._interruptible = False
            raise StopRequested

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Lets a signal wait until the end of the block."""
        before, self._interruptible = self._interruptible, False
        try:
            yield
        finally:
            self._interruptible = before
        if before and self._signals:
            self._interruptible = False
            raise StopRequested


class _Kept:
    """A process that is kept running."""

    def __init__(self, spec: Spec, child: Child) -> None:
        self.spec = spec
        self.child = child
        self.is_first = True
        self.early_deaths = 0
        self.resume_at: float | None = None


def child_environment(overrides: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with some variables set: what our own processes are started with."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **overrides}


def _patience(say: Callable[[str], None]) -> Callable[[], bool]:
    """Waits, a moment per call, for a folder that is being cleared away; false when it takes too long."""
    deadline: float | None = None

    def wait() -> bool:
        nonlocal deadline
        if deadline is None:
            deadline = time.monotonic() + _CLEARING_S
            say("the last run was killed; waiting until what it left is stopped …")
        time.sleep(_LOOK_EVERY_S)
        return time.monotonic() < deadline

    return wait
