"""The Celery app of the process that sends webhooks: a lane for each standing of endpoints, threads for all of them.

Each lane has as many threads as the others, and no lane can take another's. RabbitMQ sees to that by what it hands out: a message stays unacknowledged
while its session runs, and each lane's consumer has a bound of its own. Valkey knows one bound for all, so a lane also has places, and a hint that finds
none is dropped: the endpoint is hinted again.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.exceptions import Reject
from celery.worker.consumer.tasks import Tasks

from broker.topology import WEBHOOK_TASK, hint_queue, is_amqp, make_queue, worker_options
from domain.delivery import Standing
from domain.messages import HintMessage, UnreadableMessage
from models.sealing import UnknownSealingKey
from models.transactions import DatabaseAway, LockedRow
from workers.webhooks.session import Sending, Session

log = structlog.get_logger(__name__)

VISIBILITY_TIMEOUT_S = 120.0  # Valkey/Redis: over the longest that a session may take
WAKE_EVERY_S = 0.05  # threads cannot wake Celery's event loop; what they acknowledge goes out at its next round


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """What the process is told.

    Attributes:
        name: unique to it; the owners of its leases begin with it.
        broker_url: where hints come from.
        queue_type: of the queues, where the broker is RabbitMQ.
        threads: of each lane.
    """

    name: str
    broker_url: str
    queue_type: str
    threads: int


class Lanes:
    """Takes hints and runs sessions, within the places of each lane."""

    def __init__(self, config: WebhookConfig, sending: Sending) -> None:
        self._name = config.name
        self._sending = sending
        self._lock = threading.Lock()
        self._free = dict.fromkeys(Standing, config.threads)
        self._numbers = count(1)

    def serve(self, lane: Standing, message: object) -> None:
        """One session, in the calling thread, if the lane has a place. Nothing that goes wrong is raised: the endpoint is hinted again.

        Raises:
            Reject: the process is about to end; another shall have the hint.
        """
        try:
            hint = HintMessage.decode(message)
        except UnreadableMessage as error:
            log.warning("a hint could not be read", error=str(error))
            return
        if self._sending.stopping.is_set():
            raise Reject(requeue=True)
        if not self._take(lane):
            return
        try:
            owner = f"{self._name}:{next(self._numbers)}"
            Session(self._sending, endpoint_id=hint.endpoint_id, lane=lane, owner=owner, others_wait=lambda: self._full(lane)).run()
        except (DatabaseAway, LockedRow) as error:
            log.warning("a session ended early", endpoint=str(hint.endpoint_id), error=f"{type(error).__name__}: {error}"[:300])
        except UnknownSealingKey:
            pass  # the session has said so
        except Exception:
            log.exception("a session failed", endpoint=str(hint.endpoint_id))
        finally:
            self._give(lane)

    def _take(self, lane: Standing) -> bool:
        with self._lock:
            free = self._free[lane] > 0
            self._free[lane] -= free
        return free

    def _give(self, lane: Standing) -> None:
        with self._lock:
            self._free[lane] += 1

    def _full(self, lane: Standing) -> bool:
        with self._lock:
            return self._free[lane] == 0


def make_webhooks_celery(config: WebhookConfig, lanes: Lanes, *, on_ready: Callable[[], None]) -> Celery:
    """The Celery app; nothing of it is global.

    Args:
        config: of the process.
        lanes: what runs sessions.
        on_ready: called after every connect, once all lanes are consumed.
    """
    app = Celery("millpond-webhooks", broker=config.broker_url, set_as_current=False)
    amqp = is_amqp(config.broker_url)
    queues = {standing: make_queue(hint_queue(standing), queue_type=config.queue_type, amqp=amqp) for standing in Standing}
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,  # a session that runs counts against its lane's prefetch
        task_create_missing_queues=False,
        task_queues=list(queues.values()),
        task_default_queue=hint_queue(Standing.NEW),
        worker_pool="threads",
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,  # it sets one bound for all lanes
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # fences keep two sessions apart
        broker_channel_error_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=30,
        broker_transport_options=worker_options(config.broker_url, visibility_timeout_s=VISIBILITY_TIMEOUT_S),
    )
    by_queue = {queue.name: standing for standing, queue in queues.items()}

    @app.task(name=WEBHOOK_TASK, bind=True, typing=False)  # type: ignore[untyped-decorator]
    def webhooks(task: Any, message: object = None) -> None:
        """Serves the endpoint that a hint names."""
        lanes.serve(by_queue[task.request.delivery_info["routing_key"]], message)

    class ConsumeLanes(bootsteps.StartStopStep):
        """Consumes each lane with a bound of its own."""

        requires = (Tasks,)  # type: ignore[assignment]  # Celery's base says ()

        def start(self, c: Any) -> None:
            """After every connect."""
            channel = c.connection.default_channel
            if c.qos_global:
                channel.basic_qos(0, 0, True)  # noqa: FBT003 - the AMQP method's own shape
            channel.basic_qos(0, config.threads if amqp else config.threads * len(queues), False)  # noqa: FBT003
            if c.hub is not None:
                c.hub.call_repeatedly(WAKE_EVERY_S, _nothing)
            on_ready()

    app.steps["consumer"].add(ConsumeLanes)
    return app


def _nothing() -> None:
    """A round of the event loop is all that is wanted."""
