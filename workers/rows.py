"""A micro-batch as rows: every job gives one or more, rows of like length share a run of the model, and each job gets its own back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from domain.failures import CanceledByUser, InferenceError
from workers.backends.base import Run
from workers.tensors import Array


@dataclass(frozen=True, slots=True)
class Computed:
    """What one job came to: its rows, and the model's numbers for each."""

    rows: Sequence[Any]
    outputs: Sequence[Array]


def computed(
    inputs: Sequence[Any],
    run: Run,
    *,
    read: Callable[[int, Any], Sequence[Any]],
    groups: Callable[[Sequence[Any]], Iterator[Sequence[int]]],
    compute: Callable[[Sequence[Any]], Sequence[Array]],
) -> list[Computed | InferenceError]:
    """Runs a micro-batch; a job that cannot be read, or is wanted no longer, concerns no other.

    Args:
        inputs: of the jobs.
        run: stop flags are asked before a job is read, and before each run of the model.
        read: the rows of a job; its errors are the job's.
        groups: places of the rows that share a run.
        compute: one run of the model; its errors are everyone's.
    """
    results: dict[int, Computed | InferenceError] = {}
    rows: list[Any] = []
    owners: list[int] = []
    spans: dict[int, range] = {}
    for job, value in enumerate(inputs):
        try:
            if run.should_stop(job):
                raise CanceledByUser
            mine = read(job, value)
        except InferenceError as error:
            results[job] = error
        else:
            spans[job] = range(len(rows), len(rows) + len(mine))
            rows += mine
            owners += [job] * len(mine)
    outputs: dict[int, Array] = {}
    for members in groups(rows):
        results |= {job: CanceledByUser() for job in {owners[place] for place in members} - results.keys() if run.should_stop(job)}
        wanted = [place for place in members if owners[place] not in results]
        if wanted:
            outputs |= dict(zip(wanted, compute([rows[place] for place in wanted]), strict=True))
    for job in range(len(inputs)):
        if job not in results:
            results[job] = Computed([rows[place] for place in spans[job]], [outputs[place] for place in spans[job]])
    return [results[job] for job in range(len(inputs))]


def by_length(lengths: Sequence[int], most: int, *, apart: bool = False) -> Iterator[list[int]]:
    """Places of rows, up to ``most`` together, the shortest first, so that little is computed on padding.

    Args:
        lengths: of each row.
        most: in one run.
        apart: whether only rows of the same length may share one.
    """
    members: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if members and (len(members) == most or (apart and lengths[place] != lengths[members[0]])):
            yield members
            members = []
        members.append(place)
    if members:
        yield members
