"""A busy process is kept to one CPU, an idle one to none."""

import subprocess
import sys

from api.one_cpu import choose

BUSY_THEN_IDLE = """
import os, sys, threading, time
from api import one_cpu

if sys.platform != "linux":
    sys.exit()

def masks():
    looks = next((thread.native_id for thread in threading.enumerate() if thread.name == 'one-cpu'), None)
    return [len(os.sched_getaffinity(int(thread))) for thread in os.listdir('/proc/self/task') if int(thread) != looks]

def until(wanted, work):
    give_up_at = time.monotonic() + 20
    while not wanted(masks()):
        assert time.monotonic() < give_up_at, masks()
        work()

def burn():
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        pass

waiting = threading.Event()
threading.Thread(target=waiting.wait, daemon=True).start()
allowed = len(os.sched_getaffinity(0))
one_cpu.keep_to_one_cpu()
until(lambda masks: set(masks) == {1}, burn)
late = threading.Thread(target=waiting.wait, daemon=True)
late.start()
until(lambda masks: set(masks) == {1} and len(masks) == 3, burn)
until(lambda masks: set(masks) == {allowed}, lambda: waiting.wait(0.05))
"""


def test_choose_with_room_nowhere_stays() -> None:
    assert choose({0: 0.0, 1: 0.05}, here=0, own=0.7) == 0


def test_choose_counts_what_the_process_itself_uses_as_room() -> None:
    assert choose({0: 0.05, 1: 0.9}, here=0, own=0.9) == 0


def test_choose_where_others_crowd_it_out_goes_where_there_is_room() -> None:
    assert choose({0: 0.0, 1: 0.8, 2: 0.3}, here=0, own=0.4) == 1


def test_choose_where_its_cpu_was_taken_away_takes_another() -> None:
    assert choose({1: 0.1}, here=0, own=0.9) == 1


def test_choose_from_nowhere_takes_the_most_room() -> None:
    assert choose({0: 0.1, 1: 0.2}, here=None, own=0.9) == 1


def test_choose_of_equals_parts_processes() -> None:
    assert {choose({0: 1.0, 1: 1.0, 2: 1.0}, here=None, own=0.5) for _ in range(200)} == {0, 1, 2}


def test_busy_process_is_kept_to_one_cpu_with_all_its_threads_and_let_go_when_idle() -> None:
    done = subprocess.run([sys.executable, "-c", BUSY_THEN_IDLE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
