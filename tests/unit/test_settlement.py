"""Who is to blame for a dead child, and what becomes of the rest; played out, a poison job hurts itself alone."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from domain.job import MAX_CRASHES, Outcome, Status
from models.queries.finish import Ending, Return
from tests.support.worker_parts import claimed_job, dispatch_of
from workers.board import Board, Place, Progress
from workers.dispatch import Dispatch, Kill
from workers.settlement import Verdict, judge, sentence

U, W, R, D = Progress.UNKNOWN, Progress.WAITING, Progress.RUNNING, Progress.DONE


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Board.create(tmp_path / "board", 1).place(0)


@pytest.mark.parametrize(
    ("progress", "kill", "pid", "culprit", "again"),
    [
        ((R, R, R), None, 7, None, [[0], [1], [2], []]),
        ((D, R, R, W, W), None, 7, None, [[1], [2], [3, 4]]),
        ((D, R, W), None, 7, 1, [[2]]),
        ((R,), None, 7, 0, [[]]),
        ((U, U), None, 7, None, [[0, 1]]),
        ((U, U), None, 0, None, [[0, 1]]),
        ((U,), None, 0, None, [[0]]),
        ((U,), None, 7, None, [[0]]),
        ((W,), None, 7, 0, []),
        ((W, W, U), None, 7, None, [[0], [1], [2]]),
        ((D, D), None, 7, None, [[]]),
        ((R, R), Kill.OVER_TIME, 7, None, [[0], [1], []]),
        ((R,), Kill.OVER_TIME, 7, 0, [[]]),
        ((R, W), Kill.CANCELED, 7, None, [[1]]),
        ((R, W, U), Kill.DRAINED, 7, None, [[1, 2]]),
    ],
)
def test_verdict(place: Place, progress: tuple[Progress, ...], kill: Kill | None, pid: int, culprit: int | None, again: list[list[int]]) -> None:
    dispatch = dispatch_of(place, *progress, kill=kill, pid=pid)

    verdict = judge(dispatch)

    assert verdict.culprit == (None if culprit is None else dispatch.ids[culprit])
    assert [list(group) for group in verdict.again] == [[dispatch.ids[index] for index in group] for group in again]


def test_sentence_of_a_job_whose_process_lives_is_a_failure_of_its_own() -> None:
    verdict = sentence(claimed_job(failures=2, crashes=1), over_time=False, raised="TypeError: can't adapt type")

    assert isinstance(verdict, Ending)
    assert (verdict.status, verdict.failure_counts, verdict.crashed) == (Status.FAILED, True, False)
    assert verdict.failure is not None
    assert verdict.failure.code == "model_error"


def test_sentence_of_the_first_crashes_is_another_attempt_alone() -> None:
    for crashes in range(MAX_CRASHES - 1):
        verdict = sentence(claimed_job(crashes=crashes, failures=2), over_time=False)
        assert isinstance(verdict, Return)
        assert (verdict.outcome, verdict.crashed, verdict.solo, verdict.failure_counts) == (Outcome.LOST, True, True, False)
        assert (verdict.delay_s or 0) > 0


def test_sentence_of_the_last_crash_is_worker_lost() -> None:
    verdict = sentence(claimed_job(crashes=MAX_CRASHES - 1), over_time=False)

    assert isinstance(verdict, Ending)
    assert (verdict.status, verdict.failure and verdict.failure.code, verdict.crashed) == (Status.FAILED, "worker_lost", True)


@pytest.mark.parametrize(("failures", "kind"), [(0, Return), (1, Return), (2, Ending)])
def test_sentence_of_a_time_out_counts_as_a_failure_of_the_job(failures: int, kind: type) -> None:
    verdict = sentence(claimed_job(failures=failures, max_attempts=3), over_time=True)

    assert isinstance(verdict, kind)
    assert verdict.failure is not None
    assert (verdict.failure.code, verdict.failure_counts, verdict.crashed) == ("run_timeout", True, False)


# --- played out


def _play(place: Place, judged: Callable[[Dispatch], Verdict]) -> tuple[int, list[bool]]:
    """Ten jobs in a batch, the fourth kills every process that runs it; returns its crashes, and which of the others succeeded."""
    first = dispatch_of(place, *[R] * 10)
    jobs = list(first.ids)
    poison, succeeded, blamed = jobs[3], set[UUID](), list[UUID]()
    open_groups = [jobs]
    for _ in range(20):
        if not open_groups:
            break
        group = open_groups.pop(0)
        if poison not in group:
            succeeded.update(group)
            continue
        died = dispatch_of(place, *[R] * len(group))
        died.ids = group
        verdict = judged(died)
        if verdict.culprit is not None:
            blamed.append(verdict.culprit)
        open_groups += [list(part) for part in verdict.again if part]
    assert set(blamed) <= {poison}
    return len(blamed), [job_id in succeeded for job_id in jobs if job_id != poison]


def test_poison_is_found_and_all_others_succeed(place: Place) -> None:
    assert _play(place, judge) == (1, [True] * 9)


def test_without_dividing_the_poison_takes_all_others_with_it(place: Place) -> None:
    """Shows that ``test_poison_is_found_and_all_others_succeed`` can fail."""

    def undivided(dispatch: Dispatch) -> Verdict:
        return Verdict(None, [list(dispatch.ids)])

    assert _play(place, undivided) == (0, [False] * 9)
