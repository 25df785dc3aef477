"""The Celery worker of a pool: how it is configured, started, made ready and stopped.

Celery gives the connection, the event loop and the prefork pool. What it would do per task is replaced by the batcher, through
``Strategy``, the attribute by which a worker turns a message into work.
"""

import shutil
import warnings
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, bootsteps, signals
from celery.app.task import Task
from celery.exceptions import SecurityWarning
from celery.worker import state as celery_state
from celery.worker.consumer.tasks import Tasks
from kombu.common import ignore_errors

from broker.topology import TASK, is_amqp, make_queue, worker_options
from domain.errors import ModelsNotLoaded
from models.transactions import DatabaseAway, LockedRow, make_engine
from weights.ready import remedy
from workers.batcher import AGAIN_AFTER_S, Batcher
from workers.board import Board, Progress
from workers.child import BOARD_FILE, PLACES_PER_SLOT
from workers.config import WorkerConfig
from workers.dispatch import Dispatch
from workers.lanes import BrokerMessage
from workers.leases import LeaseKeeper
from workers.maintenance.release import release_worker
from workers.run_counter import RunCounter
from workers.settlement import Clerk, judge
from workers.watchdog import Watchdog

log = structlog.get_logger(__name__)

CHILD_START_TIMEOUT_S = 60.0  # a child is a fresh interpreter; Celery's 4 s are for forks
EXIT_NOT_READY = 1
NOTICE_DEATHS_EVERY_S = 0.25  # Celery itself looks every 5 s; under spawn the sentinel of a dead child does not wake the loop


def make_celery(config: WorkerConfig) -> Celery:
    """The Celery app of a pool's worker; nothing of it is global.

    Celery's result backend, ETA, countdown, autoretry, revoke, events and remote control are not used.
    """
    spec = config.catalogue.pools[config.pool]
    app = Celery("millpond", broker=config.broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_create_missing_queues=False,
        task_queues=[make_queue(name, queue_type=config.queue_type, amqp=is_amqp(config.broker_url)) for name in config.catalogue.queues_of_pool(config.pool)],
        task_default_queue=str(next(config.catalogue.queues_of_pool(config.pool))),
        worker_prefetch_multiplier=config.catalogue.prefetch_of_pool(config.pool),
        worker_max_tasks_per_child=spec.batches_per_child or None,
        worker_pool="prefork",
        worker_pool_start_method="spawn",  # leases run in threads here, and runtimes have threads of their own: neither survives a fork
        worker_proc_alive_timeout=CHILD_START_TIMEOUT_S,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the fence drops a second copy; the first goes on
        broker_channel_error_retry=True,  # a passed consumer_timeout must not end the worker
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=30,
        broker_transport_options=worker_options(config.broker_url, visibility_timeout_s=config.visibility_timeout_s),
    )
    app.steps["consumer"].add(LaneConsumers)
    return app


class LaneConsumers(bootsteps.StartStopStep):
    """Consumes each lane over a channel of its own, whose bound is the lane's.

    With one bound for all, a backlog of ``flex`` fills it, and an ``interactive`` message waits in the broker until a batch of it has ended. Celery sets
    one for all on its own channel, whatever is asked of it, and Valkey knows no other: so its channel consumes nothing.
    """

    requires = (Tasks,)  # type: ignore[assignment]  # Celery's base says ()

    def __init__(self, c: Any, **options: Any) -> None:
        c.lanes = []
        super().__init__(c, **options)  # type: ignore[no-untyped-call]  # Celery's own

    def start(self, c: Any) -> None:
        """After every connect: nothing is consumed yet."""
        c.lanes = []

    @staticmethod
    def consume(c: Any) -> None:
        """From now on messages come, so many of each lane; asked again, it changes nothing."""
        if c.lanes:
            return
        for queue in c.app.conf.task_queues:
            channel = c.connection.channel()
            channel.basic_qos(0, c.initial_prefetch_count, False)  # noqa: FBT003 - the AMQP method's own shape
            lane = c.app.amqp.TaskConsumer(channel, queues=[queue], on_message=c.task_consumer.on_message, on_decode_error=c.on_decode_error)
            lane.consume()
            c.lanes.append(lane)

    def stop(self, c: Any) -> None:
        """No more come: the connection is lost, or the worker stops and lets what runs finish, which is acknowledged over these channels."""
        for lane in c.lanes:
            ignore_errors(c, lane.cancel)
        if c.connection is None:
            self.shutdown(c)

    def shutdown(self, c: Any) -> None:
        """Closes the channels before Celery's own: by that one goes back what Valkey hands over meanwhile."""
        while c.lanes:
            channel = c.lanes.pop().channel
            for _ in range(2):  # Valkey's gives up the first time where the connection is lost
                ignore_errors(c, channel.close)


class WorkerProcess:
    """One worker of one pool: the Celery worker, the batcher, and the threads beside them."""

    def __init__(self, config: WorkerConfig) -> None:
        config.run_dir.mkdir(parents=True, mode=0o700, exist_ok=True)
        config.save()
        self._config = config
        self._engine = make_engine(config.database_url, pool_size=3, application_name=f"millpond worker {config.pool}")
        board = Board.create(config.run_dir / BOARD_FILE, config.concurrency * PLACES_PER_SLOT)
        self._batcher = Batcher(config, board, on_died=self._died, on_ready=self._consume, on_hopeless=self._give_up)
        self._leases = LeaseKeeper(config, self._engine, self._batcher)
        self._watchdog = Watchdog(config, self._batcher)
        self._runs = RunCounter(self._engine)
        self._clerk = Clerk(self._engine, self._runs, models=config.catalogue.models)
        self._consumer: Any = None
        self._hopeless: str | None = None
        self._app = make_celery(config)
        self._register_task()

    def run(self) -> int:
        """Works until told to stop (SIGTERM), then lets what runs finish and gives the rest back.

        Returns:
            The exit code: 0 after an orderly stop, 1 if the models could not be loaded again, in the place of a child that was gone.

        Raises:
            ModelsNotLoaded: they could not be loaded at all.
        """
        for thread in (self._leases, self._watchdog, self._clerk):
            thread.start()
        self._runs.start()
        signals.worker_shutting_down.connect(self._stopping, weak=False)
        signals.setup_logging.connect(_keep_logging, weak=False)
        warnings.filterwarnings("ignore", category=SecurityWarning)  # of running as root; it is about pickle, which is not accepted here
        worker = self._app.Worker(
            hostname=self._config.name,
            concurrency=self._config.concurrency,
            optimization="fair",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
            exclude_queues=[str(name) for name in self._config.catalogue.queues_of_pool(self._config.pool)],
        )
        try:
            worker.start()
        finally:
            self._batcher.stopping = True
            self._watchdog.stop()
            self._clerk.stop()
            self._runs.flush()
            self._leases.stop()
            self._release()
            self._engine.dispose()
            shutil.rmtree(self._config.run_dir, ignore_errors=True)
        if self._hopeless is not None:
            log.error("the worker ends: its models cannot be loaded", pool=self._config.pool, error=self._hopeless)
            if not self._batcher.ready:
                raise ModelsNotLoaded(f"{self._hopeless}; {remedy(self._hopeless)}")
            return EXIT_NOT_READY
        return int(worker.exitcode or 0)

    def _register_task(self) -> None:
        bind = self._bind

        class JobsTask(Task):
            """Never runs as a task: its strategy hands messages to the batcher."""

            abstract = True
            typing = False
            Strategy: Any = staticmethod(lambda _task, _app, consumer: bind(consumer))

        @self._app.task(base=JobsTask, name=TASK)  # type: ignore[untyped-decorator]
        def jobs(_message: object) -> None:
            """What messages name."""

    def _bind(self, consumer: Any) -> Callable[..., None]:
        """Called by Celery at every connect, before the event loop begins."""
        self._consumer = consumer
        self._batcher.rebind(consumer.pool, consumer.connection_errors, consumer.hub.call_later)
        consumer.hub.call_repeatedly(NOTICE_DEATHS_EVERY_S, consumer.pool.maintain_pool)
        consumer.hub.call_repeatedly(AGAIN_AFTER_S, self._batcher.flush)  # places that came free outside this thread, as a ghost was buried
        scheduled = False

        def flush() -> None:
            nonlocal scheduled
            scheduled = False
            self._batcher.flush()

        def handle(message: BrokerMessage, *_: object, **__: object) -> None:
            nonlocal scheduled
            self._batcher.receive(message)
            if not scheduled:
                scheduled = True
                consumer.hub.call_soon(flush)

        consumer.hub.call_soon(self._batcher.begin)
        return handle

    def _consume(self) -> None:
        LaneConsumers.consume(self._consumer)
        log.info("worker ready", pool=self._config.pool, concurrency=self._config.concurrency, worker=self._config.name)

    def _died(self, dispatch: Dispatch) -> None:
        verdict = judge(dispatch)
        if verdict.culprit is not None:
            self._clerk.sentence(dispatch, verdict.culprit)
        if not self._batcher.stopping:
            claimed = len(dispatch.jobs_in(Progress.UNKNOWN)) < len(dispatch.ids)
            self._batcher.again(dispatch, verdict.again, after_s=0.0 if claimed else AGAIN_AFTER_S)

    def _give_up(self, error: str) -> None:
        self._hopeless = error
        celery_state.should_stop = EXIT_NOT_READY  # type: ignore[assignment]  # Celery's own sentinel: False, None or an exit code

    def _stopping(self, **_: object) -> None:
        self._batcher.stopping = True
        self._watchdog.drain()

    def _release(self) -> None:
        try:
            release_worker(self._engine, self._config.name)
        except (DatabaseAway, LockedRow) as error:
            log.warning("jobs could not be given back; the reaper will", error=str(error))


def _keep_logging(**_: object) -> None:
    """Logging is configured already; with someone connected to its signal, Celery leaves it alone."""
