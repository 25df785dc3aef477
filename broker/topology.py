"""Exchange, queues and connections, derived from the catalogue and the lanes of webhooks in this one place."""

from typing import Any

from kombu import Connection, Exchange, Queue

from domain.catalogue import QueueName
from domain.delivery import Standing

TASK = "millpond.jobs"  # the Celery task that every message of jobs names
WEBHOOK_TASK = "millpond.webhooks"  # that of every hint of deliveries
EXCHANGE = Exchange("millpond", type="direct", durable=True)
CONNECT_TIMEOUT_S = 2.0
HEARTBEAT_S = 30


def is_amqp(broker_url: str) -> bool:
    """Whether the broker is RabbitMQ, in contrast to Valkey or Redis."""
    return broker_url.startswith(("amqp://", "amqps://"))


def hint_queue(standing: Standing) -> str:
    """The queue of hints about endpoints of one standing."""
    return f"webhooks.{standing}"


def make_queue(name: QueueName | str, *, queue_type: str, amqp: bool) -> Queue:
    """The queue of one priority of one pool, or of one lane of webhooks.

    Args:
        name: pool and priority, or what ``hint_queue`` says.
        queue_type: ``classic`` or ``quorum``; RabbitMQ alone knows types. No delivery limit: Postgres counts attempts, and a message
            that RabbitMQ drops is brought again by the sweep.
        amqp: whether the broker is RabbitMQ.
    """
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": -1} if amqp and queue_type == "quorum" else None
    return Queue(str(name), EXCHANGE, routing_key=str(name), durable=True, queue_arguments=arguments)


def publisher_options(broker_url: str) -> dict[str, Any]:
    """Transport options of a connection that publishes: bounded everywhere, or a blocked broker hangs it for ever."""
    if is_amqp(broker_url):
        return {"read_timeout": 2, "write_timeout": 2, "max_retries": 1, "interval_start": 0, "interval_step": 0.2}
    return {"socket_timeout": 2, "socket_connect_timeout": 2, "retry_on_timeout": False}


def worker_options(broker_url: str, *, visibility_timeout_s: float) -> dict[str, Any]:
    """Transport options of a worker's connection.

    Args:
        broker_url: RabbitMQ or Valkey/Redis.
        visibility_timeout_s: above the longest a message can stay unacknowledged; Valkey/Redis delivers it again after that.
    """
    if is_amqp(broker_url):
        return {}
    return {
        "visibility_timeout": visibility_timeout_s,
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        "health_check_interval": 10,
        "socket_keepalive": True,
    }


def connect(broker_url: str) -> Connection:
    """A connection for publishing; nothing is opened yet."""
    return Connection(broker_url, transport_options=publisher_options(broker_url), connect_timeout=CONNECT_TIMEOUT_S, heartbeat=0)
