"""Lanes of senders: bounded by themselves, and indifferent to what a message says."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import Reject

from domain.delivery import Standing
from domain.messages import HintMessage
from models.sealing import Sealer, make_sealing_key
from models.transactions import make_engine
from tests.support.waiting import wait_until
from workers.webhooks.app import Lanes, WebhookConfig
from workers.webhooks.session import Sending


class Client:
    """Stands where a session first looks; what it does is the test's."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def __getitem__(self, lane: Standing) -> Any:
        self.look()
        raise ZeroDivisionError  # as any defect would


def lanes_of(look: Callable[[], None], *, threads: int = 2) -> tuple[Lanes, Sending]:
    engine = make_engine("postgresql://nobody@127.0.0.1:1/none", pool_size=1)
    sending = Sending(engine, Client(look), Sealer([make_sealing_key()]), "", threading.Event())  # type: ignore[arg-type]
    return Lanes(WebhookConfig("w", "memory://", "classic", threads), sending), sending


def hint() -> object:
    return HintMessage(uuid4()).encode()


def test_lane_that_is_full_drops_hints_and_leaves_other_lanes_their_places() -> None:
    go_on = threading.Event()
    looked: list[str] = []

    def look() -> None:
        looked.append(threading.current_thread().name)
        go_on.wait(10)

    lanes, _ = lanes_of(look)

    def serve(lane: Standing) -> threading.Thread:
        thread = threading.Thread(target=lanes.serve, args=(lane, hint()), name=lane)
        thread.start()
        return thread

    threads = [serve(Standing.FAILING) for _ in range(2)]
    wait_until(lambda: len(looked) == 2, what="the lane to be full")
    lanes.serve(Standing.FAILING, hint())  # returns at once
    assert len(looked) == 2
    threads.append(serve(Standing.GOOD))
    wait_until(lambda: looked[2:] == ["good"], what="the other lane to serve")
    go_on.set()
    for thread in threads:
        thread.join()
    lanes.serve(Standing.FAILING, hint())
    assert len(looked) == 4, "a session that failed has given its place back"


@pytest.mark.parametrize(
    "message", [None, {}, [], "x", {"schema": 2, "endpoint": "0" * 32}, {"schema": 1}, {"schema": 1, "endpoint": 7}, {"schema": 1, "endpoint": "x"}]
)
def test_hint_that_cannot_be_read_is_dropped(message: object) -> None:
    looked: list[int] = []
    lanes, _ = lanes_of(lambda: looked.append(1))
    lanes.serve(Standing.NEW, message)
    assert not looked


def test_hint_that_comes_as_the_process_stops_is_given_back() -> None:
    lanes, sending = lanes_of(lambda: None)
    sending.stopping.set()
    with pytest.raises(Reject) as rejected:
        lanes.serve(Standing.NEW, hint())
    assert rejected.value.requeue


def test_hint_is_read_as_it_was_written() -> None:
    message = HintMessage(uuid4())
    assert HintMessage.decode(message.encode()) == message
