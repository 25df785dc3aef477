"""Going through the jobs of a micro-batch one after the other, so that what is wrong with one concerns it alone."""

from collections.abc import Callable
from typing import TypeVar

from domain.failures import CanceledByUser, InferenceError
from workers.backends.base import Run

T = TypeVar("T")


def one_by_one(jobs: int, run: Run, work: Callable[[int], T]) -> list[T | InferenceError]:
    """Does the work of each job that is still wanted.

    Args:
        jobs: how many there are.
        run: knows which are wanted no longer.
        work: takes the job's index; may raise an ``InferenceError``, which becomes that job's entry. Whatever else it raises goes on up, so
            that the micro-batch is bisected.

    Returns:
        One entry a job, in order.
    """
    return [_one(job, run, work) for job in range(jobs)]


def _one(job: int, run: Run, work: Callable[[int], T]) -> T | InferenceError:
    if run.should_stop(job):
        return CanceledByUser()
    try:
        return work(job)
    except InferenceError as error:
        return error
