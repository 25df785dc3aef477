import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.embedded.processes import Process, stop_in_order
from tests.support.waiting import wait_until

Start = Callable[..., Process]

# Writes its name when it is told to stop; then ends, or goes on if it is told to.
_STAND_IN = """
import os, signal, sys, time
name, log, obeys = sys.argv[1:4]
def told(number, frame):
    with open(log, "a") as f: f.write(f"{name} {signal.Signals(number).name}\\n")
    if obeys == "yes": os._exit(0)
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, told)
print("ready", flush=True)
while True: time.sleep(60)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start(log: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *, obeys: bool = True, stop_signal: int = signal.SIGTERM, is_database: bool = False) -> Process:
        command = [sys.executable, "-S", "-c", _STAND_IN, name, str(log), "yes" if obeys else "no"]
        popen = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(popen)
        assert popen.stdout is not None
        assert popen.stdout.readline() == "ready\n"
        return Process.of(name, popen.pid, stop_signal=stop_signal, is_database=is_database)

    yield start
    for popen in started:
        popen.kill()
        popen.communicate()


def test_alive_is_of_this_process_alone(start: Start) -> None:
    process = start("one")

    assert process.alive()
    assert not replace(process, born="another time").alive()
    assert not replace(process, born="").alive()


def test_alive_ended_but_not_yet_reaped_is_dead(start: Start) -> None:
    process = start("one")
    os.kill(process.pid, signal.SIGKILL)

    wait_until(lambda: not process.alive(), what="the zombie to count as dead")


def test_stranger_with_the_same_number_is_not_touched(start: Start) -> None:
    process = start("one")
    other = replace(process, born=process.born.rpartition("/")[0] + "/12345")

    other.send(signal.SIGTERM)
    other.kill_session()
    stop_in_order([other], drain_s=0)

    assert process.alive()


def test_process_of_an_earlier_boot_leaves_its_session_alone(start: Start) -> None:
    process = start("one")

    replace(process, born="another-boot/1").kill_session()

    assert process.alive()


def test_kill_session_ends_what_a_dead_leader_left_behind() -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], stdout=-3, process_group=0).pid, flush=True); sys.stdin.read()"
    leader = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert leader.stdout is not None
    child = Process.of("child", int(leader.stdout.readline()))
    process = Process.of("leader", leader.pid)
    leader.kill()
    leader.communicate()
    assert child.alive()

    process.kill_session()

    wait_until(lambda: not child.alive(), what="the grandchild to end")


def test_stop_in_order_stops_the_databases_last_and_each_by_its_signal(start: Start, log: Path) -> None:
    processes = [start("database", stop_signal=signal.SIGINT, is_database=True), start("worker"), start("api")]

    stop_in_order(processes)

    assert not any(process.alive() for process in processes)
    lines = log.read_text().splitlines()
    assert sorted(lines[:2]) == ["api SIGTERM", "worker SIGTERM"]
    assert lines[2:] == ["database SIGINT"]


def test_stop_in_order_kills_what_does_not_stop_and_tells_while_the_database_runs(start: Start) -> None:
    stubborn, good, database = start("stubborn", obeys=False), start("good"), start("database", is_database=True)
    told: list[tuple[list[str], bool]] = []

    stop_in_order([stubborn, good, database], drain_s=0.3, after_kill=lambda killed: told.append(([process.name for process in killed], database.alive())))

    assert told == [(["stubborn"], True)]
    assert not any(process.alive() for process in (stubborn, good, database))


def test_stop_in_order_in_a_hurry_does_not_wait(start: Start) -> None:
    stubborn = start("stubborn", obeys=False)
    began = time.monotonic()

    stop_in_order([stubborn], drain_s=60.0, hurry=lambda: True)

    assert not stubborn.alive()
    assert time.monotonic() - began < 5.0


def test_stop_in_order_database_that_does_not_stop_is_ended_in_time(start: Start) -> None:
    database = start("database", obeys=False, is_database=True)
    began = time.monotonic()

    stop_in_order([database])

    assert not database.alive()
    assert time.monotonic() - began < 3.0  # DESIGN: 10 s in all, 7 of them for work under way
