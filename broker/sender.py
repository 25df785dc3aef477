"""Puts messages into queues and looks at how many wait there; every call is bounded in time."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import orjson
from amqp.exceptions import MessageNacked
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from broker.topology import TASK, WEBHOOK_TASK, connect, hint_queue, is_amqp, make_queue
from domain.catalogue import QueueName
from domain.delivery import Standing
from domain.messages import MAX_IDS, HintMessage, JobsMessage

CONFIRM_TIMEOUT_S = 2.0


class BrokerAway(Exception):
    """The broker did not take the message in time; it may have it all the same."""


class Sender:
    """One connection to the broker, for one thread.

    After an error the connection is dropped; the next call opens a new one.
    """

    def __init__(self, broker_url: str, *, queue_type: str = "classic") -> None:
        self._url = broker_url
        self._queue_type = queue_type
        self._connection: Connection | None = None
        self._channel: Any = None
        self._declared: dict[QueueName | str, Queue] = {}
        self._last_tag = 0
        self._unconfirmed: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def send(self, queue: QueueName, message: JobsMessage) -> None:
        """Sends one message and waits until the broker confirms it (at most 2 s, and as much again to give up).

        Raises:
            BrokerAway: it is not certain that the broker has it.
        """
        self.send_all([(queue, message)])

    def send_all(self, messages: Iterable[tuple[QueueName, JobsMessage]]) -> None:
        """Sends messages one after the other, and waits for all confirms together; the broker's way there and back is paid once.

        Raises:
            BrokerAway: it is not certain that the broker has all of them.
        """
        self._send((queue, TASK, message.encode(), message.ids[0].hex) for queue, message in messages)

    def send_hint(self, standing: Standing, message: HintMessage) -> None:
        """Sends one hint to the lane of a standing, as ``send`` does.

        Raises:
            BrokerAway: it is not certain that the broker has it.
        """
        self._send([(hint_queue(standing), WEBHOOK_TASK, message.encode(), uuid4().hex)])  # several of one endpoint may be under way

    def _send(self, messages: Iterable[tuple[QueueName | str, str, dict[str, object], str]]) -> None:
        try:
            for queue, task, body, marker in messages:
                channel = self._ready(queue)
                message = channel.prepare_message(
                    orjson.dumps([[body], {}, {}]),
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers={"lang": "py", "task": task, "id": marker, "root_id": marker, "argsrepr": "", "kwargsrepr": ""},
                    properties={"delivery_mode": 2, "correlation_id": marker},
                )
                channel.basic_publish(message, exchange="millpond", routing_key=str(queue), timeout=CONFIRM_TIMEOUT_S)
                if is_amqp(self._url):
                    self._last_tag += 1
                    self._unconfirmed.add(self._last_tag)
            self._await_confirms()
        except self._errors() as error:
            self.close()
            raise BrokerAway(f"{type(error).__name__}: {error}") from error

    def _await_confirms(self) -> None:
        until = time.monotonic() + CONFIRM_TIMEOUT_S
        while self._unconfirmed:
            assert self._connection is not None
            self._connection.drain_events(timeout=max(0.001, until - time.monotonic()))

    def _confirmed(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - as AMQP has it
        self._unconfirmed -= {each for each in self._unconfirmed if each <= tag} if multiple else {tag}

    def _refused(self, _tag: int, _multiple: bool) -> None:  # noqa: FBT001
        raise MessageNacked("the broker refused a message")

    def ready_messages(self, queue: QueueName) -> int:
        """How many messages wait in a queue, not counting those that workers hold.

        Raises:
            BrokerAway: nobody can say.
        """
        try:
            channel = self._ready(queue)
            passive = is_amqp(self._url)  # in Valkey/Redis an empty queue does not exist, and a passive declaration fails
            return int(self._declared[queue](channel).queue_declare(passive=passive).message_count)
        except self._errors() as error:
            self.close()
            raise BrokerAway(f"{type(error).__name__}: {error}") from error

    def purge(self, queue: QueueName) -> None:
        """Drops every message that waits in a queue; their jobs stay, and the sweep brings them again."""
        self._declared[queue](self._ready(queue)).purge()

    def close(self) -> None:
        """Drops the connection, without asking the broker for leave."""
        connection, self._connection, self._channel = self._connection, None, None
        self._declared.clear()
        self._last_tag = 0
        self._unconfirmed.clear()
        if connection is not None:
            with suppress(Exception):
                connection.collect(socket_timeout=0.2)

    def _ready(self, queue: QueueName | str) -> Any:
        """The channel, of a connection that stands, with the queue declared."""
        if self._channel is None:
            self._connection = connect(self._url)
            self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0.2, timeout=CONFIRM_TIMEOUT_S)
            channel: Any = self._connection.default_channel
            if is_amqp(self._url):
                channel.confirm_select()
                channel.events["basic_ack"].add(self._confirmed)
                channel.events["basic_nack"].add(self._refused)
            self._channel = channel
        if queue not in self._declared:
            declared = make_queue(queue, queue_type=self._queue_type, amqp=is_amqp(self._url))
            declared(self._channel).declare()
            self._declared[queue] = declared
        return self._channel

    def _errors(self) -> tuple[type[BaseException], ...]:
        connection: Any = self._connection or connect(self._url)
        return (*connection.connection_errors, *connection.channel_errors, MessageNacked, OperationalError, OSError, TimeoutError)


def pack(jobs: Iterable[tuple[QueueName, str, bool, UUID]], *, ids_per_message: dict[str, int]) -> Iterator[tuple[QueueName, JobsMessage]]:
    """Packs jobs into messages: one queue and one model each, a solo job alone.

    Args:
        jobs: (queue, model, solo, id), in the order in which they should be sent.
        ids_per_message: by model; one where it is not named.
    """
    groups: defaultdict[tuple[QueueName, str, bool], list[UUID]] = defaultdict(list)
    for queue, model, solo, job_id in jobs:
        groups[queue, model, solo].append(job_id)
    for (queue, model, solo), ids in groups.items():
        size = 1 if solo else min(ids_per_message.get(model, 1), MAX_IDS)
        for start in range(0, len(ids), size):
            yield queue, JobsMessage(model=model, ids=tuple(ids[start : start + size]), solo=solo)
