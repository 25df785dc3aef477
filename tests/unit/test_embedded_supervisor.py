import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.embedded.child import Child, Spec, StartFailed
from cli.embedded.processes import Process
from cli.embedded.state import StateFolder
from cli.embedded.supervisor import Supervisor
from tests.support.waiting import wait_until

_PROJECT = Path(__file__).resolve().parents[2]

# A parent with one child of each kind, which says when all run and then serves.
_PARENT = """
import sys
from pathlib import Path
from cli.embedded.child import Spec
from cli.embedded.state import StateFolder
from cli.embedded.supervisor import Supervisor
say = lambda line: print(line, flush=True)
with Supervisor(StateFolder(Path(sys.argv[1])), say=say) as supervisor:
    supervisor.take_folder()
    for name in ("worker", "database"):
        supervisor.start(Spec(name, ["sleep", "600"], {"PATH": "/usr/bin:/bin"}, is_database=name == "database"))
    say("all run")
    supervisor.serve()
say("the end")
"""


def _spec(name: str, code: str) -> Spec:
    return Spec(name, [sys.executable, "-S", "-c", code], {"PATH": "/usr/bin:/bin"})


_SLEEPS = "import time; time.sleep(600)"
_STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


@pytest.fixture
def supervisor(state: StateFolder, said: list[str]) -> Supervisor:
    return Supervisor(state, say=said.append, drain_s=0.5, first_pause_s=0.01)


@pytest.fixture
def parent(state: StateFolder) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        popen = subprocess.Popen([sys.executable, "-c", _PARENT, str(state.root)], cwd=_PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(popen)
        assert popen.stdout is not None
        while popen.stdout.readline() not in {"all run\n", ""}:
            pass
        return popen

    yield start
    for popen in started:
        popen.kill()
        popen.communicate()
    wait_until(lambda: not any(process.alive() for process in state.recorded()), 15.0, what="the guard to clear away")


def _serve(supervisor: Supervisor, *specs: Spec) -> None:
    with supervisor:
        supervisor.take_folder()
        for spec in specs:
            supervisor.start(spec)
        supervisor.serve()


def _one(state: StateFolder, name: str) -> Process:
    return next(process for process in state.recorded() if process.name == name)


def test_exit_stops_all_and_forgets_them(supervisor: Supervisor, state: StateFolder) -> None:
    with supervisor:
        supervisor.take_folder()
        supervisor.start(_spec("one", _SLEEPS))
        supervisor.start(_spec("two", _SLEEPS))
        running = state.recorded()
        assert [process.alive() for process in running] == [True, True]

    assert not any(process.alive() for process in running)
    assert state.recorded() == []


def test_child_that_dies_is_started_again_with_a_line_that_says_so(supervisor: Supervisor, state: StateFolder, said: list[str]) -> None:
    with supervisor:
        supervisor.take_folder()
        supervisor.start(_spec("one", _SLEEPS))
        first = _one(state, "one")
        os.kill(first.pid, signal.SIGKILL)

        supervisor.wait_until(lambda: _one(state, "one") != first, timeout_s=10, what="a new one")

        assert _one(state, "one").alive()
    assert any("one was killed by SIGKILL; starting it again in 0.01 s" in line for line in said)


def test_what_a_dead_child_left_behind_ends_before_it_is_started_again(supervisor: Supervisor, state: StateFolder) -> None:
    with supervisor:
        supervisor.take_folder()
        supervisor.start(_spec("one", "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"))
        log = state.logs / "one.log"
        supervisor.wait_until(lambda: log.read_text().endswith("\n"), timeout_s=10, what="its child")
        grandchild = Process.of("grandchild", int(log.read_text()))
        os.kill(_one(state, "one").pid, signal.SIGKILL)

        supervisor.wait_until(lambda: not grandchild.alive(), timeout_s=10, what="the grandchild to end")


def test_child_that_dies_at_once_again_and_again_ends_all_with_its_last_words(supervisor: Supervisor, state: StateFolder) -> None:
    good, broken = _spec("good", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"), _spec("broken", "raise SystemExit('the reason why')")

    with pytest.raises(StartFailed, match=r"(?s)broken ended with exit code 1 4 times in a row.*the reason why.*broken\.log"):
        _serve(supervisor, good, broken)

    assert not Process.of("good", int((state.logs / "good.log").read_text())).alive()


def test_child_that_finds_its_configuration_wrong_is_not_tried_again(supervisor: Supervisor, said: list[str]) -> None:
    broken = _spec("broken", "print('MILLPOND_X: is wrong'); raise SystemExit(2)")

    with pytest.raises(StartFailed, match=r"(?s)broken ended with exit code 2\n.*MILLPOND_X: is wrong"):
        _serve(supervisor, broken)

    assert not any("starting it again" in line for line in said)


_CANNOT_RUN = "print('noise'); print('millpond: a library is missing'); raise SystemExit(3)"


def test_child_that_cannot_run_here_is_left_out_and_the_others_go_on(supervisor: Supervisor, state: StateFolder, said: list[str]) -> None:
    left: list[tuple[str, str]] = []

    def leave_out(child: Child) -> None:
        left.append((child.spec.name, child.last_line()))
        supervisor.start(_spec("other", _SLEEPS))  # again: it is to know

    with supervisor:
        supervisor.take_folder()
        supervisor.leave_out = leave_out
        supervisor.start(_spec("other", _SLEEPS))
        first = _one(state, "other")
        supervisor.start(_spec("poor", _CANNOT_RUN))

        supervisor.wait_until(lambda: bool(left), timeout_s=10, what="the poor one to be left out")

        assert left == [("poor", "a library is missing")]
        assert not first.alive()
        assert _one(state, "other").alive()
        assert [process.name for process in state.recorded()] == ["other"]
    assert not any("starting it again" in line for line in said)


def test_child_that_cannot_run_any_more_is_one_that_dies(supervisor: Supervisor, state: StateFolder, tmp_path: Path) -> None:
    served = tmp_path / "served"
    supervisor.leave_out = lambda child: pytest.fail(f"{child.spec.name} had served")
    once = _spec("once", f"from pathlib import Path\nserved = Path({str(served)!r})\nif served.exists(): {_CANNOT_RUN}\nserved.touch()\n{_SLEEPS}")
    with supervisor:
        supervisor.take_folder()
        supervisor.start(once)
        supervisor.wait_until(served.exists, timeout_s=10, what="it to serve")
        os.kill(_one(state, "once").pid, signal.SIGKILL)

        with pytest.raises(StartFailed, match=r"(?s)once ended with exit code 3 4 times in a row"):
            supervisor.serve()


def test_program_that_is_not_there_is_a_clear_failure(supervisor: Supervisor) -> None:
    with pytest.raises(StartFailed, match="absent cannot be started"):
        _serve(supervisor, Spec("absent", ["/nowhere/absent"], {}))


def test_run_waits_for_the_end_and_fails_with_the_last_words(supervisor: Supervisor) -> None:
    with supervisor:
        supervisor.take_folder()
        supervisor.run(_spec("good", ""))
        with pytest.raises(StartFailed, match=r"(?s)bad ended with exit code 1.*no such table"):
            supervisor.run(_spec("bad", "raise SystemExit('no such table')"))


def test_last_words_are_of_this_start_and_bounded(supervisor: Supervisor, state: StateFolder) -> None:
    with supervisor:
        supervisor.take_folder()
        (state.logs / "bad.log").write_text("of yesterday\n")
        with pytest.raises(StartFailed) as failure:
            supervisor.run(_spec("bad", "print('noise ' * 10_000); raise SystemExit('the end')"))

    assert "of yesterday" not in failure.value.message
    assert "the end" in failure.value.message
    assert "bad.log" in failure.value.message


def test_wait_until_in_vain_says_what_was_waited_for(supervisor: Supervisor) -> None:
    with supervisor:
        supervisor.take_folder()
        with pytest.raises(StartFailed, match="waiting for the moon: not done within 0 s"):
            supervisor.wait_until(lambda: False, timeout_s=0.1, what="waiting for the moon")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_while_serving_stops_all_quietly(supervisor: Supervisor, state: StateFolder, number: int) -> None:
    before = signal.getsignal(number)

    with supervisor:
        supervisor.take_folder()
        supervisor.start(_spec("one", _SLEEPS))
        one = _one(state, "one")
        os.kill(os.getpid(), number)
        supervisor.serve()

    assert not one.alive()
    assert signal.getsignal(number) == before


def test_child_that_ignores_the_stop_is_killed_and_its_jobs_are_given_back(state: StateFolder, said: list[str]) -> None:
    released: list[tuple[str, bool]] = []

    def release(killed: object) -> None:
        assert isinstance(killed, list)
        released.extend((process.name, database.alive()) for process in killed)

    with Supervisor(state, say=said.append, drain_s=0.3, release_leases=release) as supervisor:
        supervisor.take_folder()
        supervisor.start(Spec("database", ["sleep", "600"], {"PATH": "/usr/bin:/bin"}, is_database=True))
        supervisor.start(_spec("stubborn", _STUBBORN))
        supervisor.wait_until(lambda: "ready" in (state.logs / "stubborn.log").read_text(), timeout_s=10, what="it to be stubborn")
        stubborn, database = _one(state, "stubborn"), _one(state, "database")

    assert released == [("stubborn", True)]
    assert not stubborn.alive()
    assert not database.alive()


def test_release_that_fails_does_not_hinder_the_stop(state: StateFolder, said: list[str]) -> None:
    def release(_killed: object) -> None:
        raise ConnectionError("no route")

    with Supervisor(state, say=said.append, drain_s=0.1, release_leases=release) as supervisor:
        supervisor.take_folder()
        supervisor.start(_spec("stubborn", _STUBBORN))
        supervisor.wait_until(lambda: "ready" in (state.logs / "stubborn.log").read_text(), timeout_s=10, what="it to be stubborn")

    assert state.recorded() == []
    assert any("no route" in line for line in said)


def test_second_parent_on_the_folder_is_refused_and_harms_nothing(parent: Callable[[], subprocess.Popen[str]], state: StateFolder) -> None:
    first = parent()

    second = subprocess.run([sys.executable, "-c", _PARENT, str(state.root)], cwd=_PROJECT, capture_output=True, text=True, timeout=30, check=False)

    assert f"another `millpond up` (process {first.pid}) is using" in second.stderr
    assert all(process.alive() for process in state.recorded())
    assert len(state.recorded()) == 2


def test_ctrl_c_reaches_the_parent_alone_and_it_ends_within_ten_seconds(parent: Callable[[], subprocess.Popen[str]], state: StateFolder) -> None:
    popen = parent()
    running = state.recorded()
    assert os.getpgid(popen.pid) == popen.pid
    assert all(os.getpgid(process.pid) == process.pid for process in running)
    began = time.monotonic()

    os.killpg(popen.pid, signal.SIGINT)  # as the terminal does

    output, _ = popen.communicate(timeout=15)
    assert time.monotonic() - began < 10.0
    assert output.endswith("the end\n")
    assert popen.returncode == 0
    assert not any(process.alive() for process in running)


def test_parent_killed_its_children_end_soon_after(parent: Callable[[], subprocess.Popen[str]], state: StateFolder) -> None:
    popen = parent()
    running = state.recorded()

    popen.kill()

    wait_until(lambda: not any(process.alive() for process in running), 15.0, what="the children to end")


def test_parent_killed_and_its_guard_the_next_start_clears_away(
    parent: Callable[[], subprocess.Popen[str]], supervisor: Supervisor, state: StateFolder, said: list[str]
) -> None:
    popen = parent()
    running = state.recorded()
    _kill_guard_of(state)
    popen.kill()
    popen.wait()
    assert all(process.alive() for process in running)

    with supervisor:
        supervisor.take_folder()
        assert not any(process.alive() for process in running)

    assert "clearing away what a killed run left behind …" in said


def test_parent_killed_the_next_start_waits_for_its_guard(parent: Callable[[], subprocess.Popen[str]], supervisor: Supervisor, state: StateFolder) -> None:
    popen = parent()
    running = state.recorded()
    popen.kill()
    popen.wait()

    with supervisor:
        supervisor.take_folder()

        assert not any(process.alive() for process in running)


def test_guard_that_is_killed_is_replaced(supervisor: Supervisor, state: StateFolder) -> None:
    with supervisor:
        supervisor.take_folder()
        first = _kill_guard_of(state)

        supervisor.wait_until(lambda: _guard_of(state) not in {0, first}, timeout_s=10, what="a new guard")


def _kill_guard_of(state: StateFolder) -> int:
    """Kills the folder's guard and gives its number; a process that has just begun to run its program has no command line yet."""
    guard: int = wait_until(lambda: _guard_of(state), what="the guard to be seen")
    os.kill(guard, signal.SIGKILL)  # 0 would be every process of this group
    return guard


def _guard_of(state: StateFolder) -> int:
    """The number of the folder's guard; 0 if there is none now."""
    wanted = ["-m", "cli.embedded.guard", str(state.root)]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if words[1:4] == wanted:
                return int(folder.name)
    return 0
