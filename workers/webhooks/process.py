"""The process that sends webhooks: started, kept, and stopped so that nothing is lost and little is sent twice."""

import threading
import warnings

import structlog
from celery import signals
from celery.exceptions import SecurityWarning
from sqlalchemy import Engine

from domain.delivery import Standing
from models.sealing import Sealer
from workers.outbound.client import Bounds, OutboundClient
from workers.outbound.resolver import Lookup, Resolver
from workers.webhooks.app import Lanes, WebhookConfig, make_webhooks_celery
from workers.webhooks.session import LEASE_S, Sending

log = structlog.get_logger(__name__)

RESOLVERS_PER_THREAD = 2  # who gives up on a name leaves the thread that looks it up behind


class WebhookProcess:
    """A Celery worker of threads, a third of them for each lane.

    Args:
        config: of the process.
        engine: the database.
        sealer: opens signing secrets.
        base_url: where the API is.
        allow_private: whether webhooks may go to private addresses.
        bounds: of every request.
        lease_s: how long a claim holds without renewal.
        lookup: in place of the system's resolver.
    """

    def __init__(
        self,
        config: WebhookConfig,
        engine: Engine,
        *,
        sealer: Sealer,
        base_url: str,
        allow_private: bool,
        bounds: Bounds = Bounds(),  # noqa: B008 - frozen
        lease_s: float = LEASE_S,
        lookup: Lookup | None = None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._stopping = threading.Event()
        clients = {
            standing: OutboundClient(Resolver(threads=RESOLVERS_PER_THREAD * config.threads, lookup=lookup), allow_private=allow_private, bounds=bounds)
            for standing in Standing
        }
        sending = Sending(engine, clients, sealer, base_url, self._stopping, lease_s=lease_s)
        self._app = make_webhooks_celery(config, Lanes(config, sending), on_ready=self._ready)

    def run(self) -> int:
        """Works until told to stop (SIGTERM): what is being sent ends within its 15 s, the rest is given back.

        Returns:
            The exit code.
        """
        signals.worker_shutting_down.connect(self._stop, weak=False)
        signals.setup_logging.connect(_keep_logging, weak=False)
        warnings.filterwarnings("ignore", category=SecurityWarning)  # of running as root; it is about pickle, which is not accepted here
        worker = self._app.Worker(
            hostname=self._config.name,
            concurrency=self._config.threads * len(Standing),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        try:
            worker.start()
        finally:
            self._stopping.set()
            self._engine.dispose()
        return int(worker.exitcode or 0)

    def _ready(self) -> None:
        log.info("webhooks ready", threads=self._config.threads, name=self._config.name)

    def _stop(self, **_: object) -> None:
        self._stopping.set()


def _keep_logging(**_: object) -> None:
    """Logging is configured already; with someone connected to its signal, Celery leaves it alone."""
