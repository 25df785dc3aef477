"""The board between a worker's main process and its children."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from workers.board import MAX_JOBS, Board, Progress


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board.create(tmp_path / "board", 3)


def test_what_one_side_writes_the_other_process_reads(tmp_path: Path, board: Board) -> None:
    program = (
        "import sys, os, pathlib\n"
        "from workers.board import Board, Progress\n"
        "place = Board(pathlib.Path(sys.argv[1]), 3).place(1)\n"
        "place.enter(os.getpid()); place.set_progress(5, Progress.RUNNING); place.run_until(1e6); print(os.getpid(), place.stopped(4))\n"
    )
    board.place(1).stop(4)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "board")], capture_output=True, text=True, check=True, cwd=Path.cwd(), timeout=30)

    place = board.place(1)
    assert done.stdout.split() == [str(place.pid), "True"]
    assert place.progress(5) is Progress.RUNNING
    assert place.progress(4) is Progress.UNKNOWN


def test_places_do_not_touch_each_other(board: Board) -> None:
    board.place(1).enter(42)
    for index in range(MAX_JOBS):
        board.place(1).set_progress(index, Progress.DONE)
        board.place(1).stop(index)

    for neighbour in (board.place(0), board.place(2)):
        assert neighbour.pid == 0
        assert not any(neighbour.stopped(index) for index in range(MAX_JOBS))
        assert {neighbour.progress(index) for index in range(MAX_JOBS)} == {Progress.UNKNOWN}


def test_place_knows_whose_it_is_after_a_child_has_entered(board: Board) -> None:
    place = board.place(1)
    place.clear(41)
    place.enter(7)

    assert (place.dispatch_number, place.pid) == (41, 7)


def test_clear_makes_a_place_new(board: Board) -> None:
    place = board.place(0)
    place.enter(1)
    place.run_until(-1.0)
    place.stop(3)
    place.set_progress(3, Progress.DONE)

    place.clear()

    assert (place.pid, place.over_time, place.stopped(3), place.progress(3)) == (0, False, False, Progress.UNKNOWN)


def test_over_time_only_while_a_micro_batch_runs(board: Board) -> None:
    place = board.place(0)
    seen = [place.over_time]
    changes: list[Callable[[], None]] = [partial(place.run_until, 60.0), partial(place.run_until, -0.001), place.rest]
    for change in changes:
        change()
        seen.append(place.over_time)

    assert seen == [False, False, True, False]
