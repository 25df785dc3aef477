import pytest

from api.routes.queues import desired_workers
from domain.job import Priority
from models.queries.queues import LaneLoad, PoolWorkers


def lanes(queued: int = 0, delayed: int = 0, running: int = 0, arrival_per_s: float = 0.0) -> list[LaneLoad]:
    return [LaneLoad("text", Priority.FLEX, queued, delayed, running, 0.0, arrival_per_s), LaneLoad("text", Priority.STANDARD)]


@pytest.mark.parametrize(
    ("load", "workers", "expected"),
    [
        (lanes(), PoolWorkers(3, 3, 6, 0, 5.0), 0),  # nothing to do
        (lanes(queued=500), PoolWorkers(), 1),  # the first one starts, and is measured
        (lanes(queued=500), PoolWorkers(4, 0, 8, 0, 0.0), 4),  # all still loading: what is there stays
        (lanes(queued=500), PoolWorkers(4, 4, 8, 8, 0.0), 4),  # nothing finished yet
        (lanes(queued=5, delayed=5), PoolWorkers(), 1),  # not due, but not nothing
        (lanes(running=1), PoolWorkers(3, 3, 6, 1, 0.0), 1),  # one slot of six is busy
        (lanes(running=16, arrival_per_s=100.0), PoolWorkers(2, 2, 4, 4, 100.0), 2),  # keeps up: stays
        (lanes(running=16, arrival_per_s=200.0), PoolWorkers(2, 2, 4, 4, 100.0), 4),  # twice as much arrives
        (lanes(queued=6_000, running=16), PoolWorkers(2, 2, 4, 4, 100.0), 4),  # 4 slots as now and 4 to clear 6,000 in a minute
        (lanes(queued=1, running=1), PoolWorkers(1, 1, 1, 1, 0.001), 2),  # a slow model: one waiting job asks for one slot
        (lanes(running=2, arrival_per_s=1.0), PoolWorkers(10, 10, 20, 1, 1.0), 1),  # far too many: down to what is busy
    ],
)
def test_desired_workers_for_a_load(load: list[LaneLoad], workers: PoolWorkers, expected: int) -> None:
    assert desired_workers(load, workers, concurrency=2) == expected
