"""In crowds messages are full; what is left over goes a moment later, and nothing stays behind."""

from collections.abc import Sequence
from typing import cast
from uuid import uuid4

from broker.publisher import LINGER_JOBS, Published, Publisher
from broker.sender import Sender
from domain.catalogue import QueueName
from domain.job import Priority
from models.transactions import make_engine
from settings import load_catalogue, load_settings
from tests.support.waiting import wait_until


class _Sent:
    """Takes messages, as the broker would."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []

    def send_all(self, messages: Sequence[tuple[QueueName, object]]) -> None:
        self.rounds.append([len(message.ids) for _, message in messages])  # type: ignore[attr-defined]

    def close(self) -> None:
        """There is nothing to close."""


def test_crowd_goes_in_full_messages_and_the_rest_of_it_after_them() -> None:
    sent = _Sent()
    away = make_engine("postgresql://nobody@127.0.0.1:9/none", pool_size=1)
    publisher = Publisher(sender=cast("Sender", sent), engine=away, ids_per_message={"echo": LINGER_JOBS}, mark_every_s=60.0)
    publisher.offer([Published(QueueName("debug", Priority.STANDARD), "echo", uuid4()) for _ in range(2 * LINGER_JOBS + 5)])
    publisher.start()
    wait_until(lambda: sum(map(sum, sent.rounds)) == 2 * LINGER_JOBS + 5)
    publisher.stop()
    assert sent.rounds == [[LINGER_JOBS, LINGER_JOBS], [5]]


def test_crowd_fills_the_largest_messages_of_the_catalogue() -> None:
    models = load_catalogue(load_settings()).models.values()
    assert max(model.ids_per_message for model in models) == LINGER_JOBS
