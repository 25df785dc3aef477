from api.depth import QueueDepth
from models.transactions import DatabaseAway


class Queue:
    def __init__(self, queued: int) -> None:
        self.queued = queued
        self.counts = 0
        self.away = False
        self.now_s = 0.0

    def count(self, most: int) -> int:
        self.counts += 1
        if self.away:
            raise DatabaseAway("gone")
        return min(self.queued, most)


def depth_of(queue: Queue, most: int) -> QueueDepth:
    return QueueDepth(queue.count, most=most, clock=lambda: queue.now_s)


def test_queue_far_from_full_is_counted_seldom() -> None:
    queue = Queue(0)
    depth = depth_of(queue, 1_000_000)
    for _ in range(290):
        queue.now_s += 0.1
        assert not depth.is_full()
    assert queue.counts == 1
    queue.now_s += 2
    depth.is_full()
    assert queue.counts == 2


def test_queue_that_fills_and_empties_is_noticed_within_a_second() -> None:
    queue = Queue(99)
    depth = depth_of(queue, 100)
    assert not depth.is_full()
    queue.queued = 100
    queue.now_s += 1.1
    assert depth.is_full()
    queue.queued = 99
    queue.now_s += 0.5
    assert depth.is_full()
    queue.now_s += 0.6
    assert not depth.is_full()


def test_queue_that_cannot_be_counted_is_not_full() -> None:
    queue = Queue(0)
    queue.away = True
    assert not depth_of(queue, 1).is_full()
