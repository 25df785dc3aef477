"""When the watchdog kills a child, and why; the children are real, and do nothing."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from models.identity import new_id
from tests.support.worker_parts import Message, Rack, worker_config
from workers.board import Progress
from workers.dispatch import Dispatch, Kill
from workers.watchdog import Watchdog


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


class Post:
    """A watchdog and one dispatch of two jobs, run by a real process."""

    def __init__(self, folder: Path, pid: int, *progress: Progress, drain_s: float = 25.0, cancel_kill_s: float = 4.0) -> None:
        self.rack = Rack(worker_config(folder))
        self.rack.load()
        self.rack.deliver(Message(new_id(), new_id()))
        (self.dispatch,) = self.rack.batcher.dispatches
        self.dispatch.place.enter(pid)
        for index, state in enumerate(progress):
            self.dispatch.place.set_progress(index, state)
        self.dog = Watchdog(replace(self.rack.config, drain_s=drain_s, cancel_kill_s=cancel_kill_s), self.rack.batcher)


def _killed(process: subprocess.Popen[bytes]) -> bool:
    try:
        return process.wait(0.3) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        return False


RUNNING = (Progress.RUNNING, Progress.RUNNING)


def test_child_over_its_time_is_killed(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    post = Post(tmp_path, child.pid, *RUNNING)
    post.dispatch.place.run_until(-0.1)
    post.dog.look()

    assert _killed(child)
    assert post.dispatch.kill is Kill.OVER_TIME


def test_child_within_its_time_is_left_alone(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    post = Post(tmp_path, child.pid, *RUNNING)
    post.dispatch.place.run_until(60.0)
    post.dog.look()

    assert not _killed(child)
    assert post.dispatch.kill is None


@pytest.mark.parametrize(("stopped", "killed"), [((0, 1), True), ((0,), False)])
def test_child_is_killed_for_cancels_only_if_nobody_wants_its_work(
    tmp_path: Path, child: subprocess.Popen[bytes], stopped: tuple[int, ...], killed: bool
) -> None:
    post = Post(tmp_path, child.pid, *RUNNING, cancel_kill_s=0.0)
    for index in stopped:
        post.dispatch.place.stop(index)
    post.dog.look()
    post.dog.look()

    assert _killed(child) is killed
    assert post.dispatch.kill is (Kill.CANCELED if killed else None)


def test_child_that_may_still_obey_a_cancel_is_given_time(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    post = Post(tmp_path, child.pid, *RUNNING, cancel_kill_s=60.0)
    for index in (0, 1):
        post.dispatch.place.stop(index)
    post.dog.look()
    post.dog.look()

    assert post.dispatch.kill is None


def test_child_that_outlasts_the_drain_is_killed(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    post = Post(tmp_path, child.pid, Progress.RUNNING, Progress.WAITING, drain_s=-1.0)
    post.dog.look()
    assert post.dispatch.kill is None
    post.dog.drain()
    post.dog.look()

    assert _killed(child)
    assert post.dispatch.kill is Kill.DRAINED


def test_child_whose_jobs_are_all_done_is_never_killed(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    post = Post(tmp_path, child.pid, Progress.DONE, Progress.DONE, drain_s=-1.0)
    post.dispatch.place.run_until(-1.0)
    post.dog.drain()
    post.dog.look()

    assert post.dispatch.kill is None


def test_child_that_has_not_begun_cannot_be_killed(tmp_path: Path) -> None:
    post = Post(tmp_path, 0, Progress.UNKNOWN, Progress.UNKNOWN, drain_s=-1.0)
    post.dog.drain()
    post.dog.look()

    assert post.dispatch.kill is None


def test_child_that_is_gone_already_is_no_error(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    post = Post(tmp_path, child.pid, *RUNNING)
    post.dispatch.place.run_until(-0.1)
    post.dog.look()

    assert isinstance(post.dispatch, Dispatch)
    assert post.dispatch.kill is Kill.OVER_TIME
