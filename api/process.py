"""One API process: its database connections, its threads, its application."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from flask import Flask
from redis import Redis
from redis.exceptions import RedisError

from api.app import create_app
from api.auth import KeyCheck
from api.body import BodyReader
from api.context import ApiContext
from api.depth import QueueDepth
from api.facts_board import FactsBoard
from api.in_hand import InHand
from api.signing_secrets import SigningSecrets
from api.submitter import Submitter
from api.watcher import Watcher
from broker.publisher import Publisher
from broker.sender import Sender
from domain.catalogue import Catalogue
from domain.keys import Principal
from models.queries.depth import queued_jobs
from models.queries.keys import find_key
from models.queries.read import Watched, watch
from models.remembered import Remembered
from models.sealing import Sealer
from models.transactions import make_engine, statement
from storage.objects import ObjectStore, StoreLocation
from weights.ready import lacking

INSTALLED_S = 2.0  # how long a look at a model's weights is believed


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """What an API process is told by its entry point.

    Attributes:
        threads: requests served at once; three quarters of them may be held waits, a sixth may read bodies.
        max_queued_jobs: past that many a submit answers 503.
        models_dir: where weights lie.
        pools: those that run here; models of others count as not installed.
        provider_keys: names of the providers' keys that there are.
        sealer: seals the secrets of webhooks; None: no webhooks.
        webhook_allow_private: whether they may go to private addresses.
        fetch_allow_private: whether inputs may be fetched from private addresses.
        files: where the store of files is, as ``ObjectStore`` takes it.
        files_retention_s: how long an upload is kept.
        files_quota_bytes: how much one tenant may store.
        public_url: what URLs in events begin with.
    """

    database_url: str
    broker_url: str
    redis_url: str | None
    queue_type: str
    catalogue: Catalogue
    models_dir: Path
    pools: Collection[str]
    threads: int
    database_pool: int
    max_queued_jobs: int
    sealer: Sealer | None
    webhook_allow_private: bool
    fetch_allow_private: bool
    files: StoreLocation
    files_retention_s: float
    files_quota_bytes: int
    public_url: str
    provider_keys: Collection[str] = ()


class ApiProcess:
    """Everything that one process of the API runs. Build it in the process that serves: it starts threads."""

    def __init__(self, config: ApiConfig) -> None:
        self._engine = make_engine(config.database_url, pool_size=config.database_pool, application_name="millpond-api")
        self._publisher = Publisher(
            sender=Sender(config.broker_url, queue_type=config.queue_type),
            engine=self._engine,
            ids_per_message={name: model.ids_per_message for name, model in config.catalogue.models.items()},
        )
        self._watcher = Watcher(look=self._look, most=config.threads * 3 // 4)
        self._submitter = Submitter(engine=self._engine, publish=self._publisher.offer)
        self._facts = FactsBoard(self._engine, config.catalogue)
        self.in_hand = InHand()
        self.app: Flask = create_app(
            ApiContext(
                catalogue=config.catalogue,
                engine=self._engine,
                submitter=self._submitter,
                watcher=self._watcher,
                key_check=KeyCheck(self._find_key),
                publish=self._publisher.offer,
                bodies=BodyReader(threads=config.threads, in_hand=self.in_hand),
                in_hand=self.in_hand,
                installed=InstalledModels(config.catalogue, config.models_dir, config.pools, config.provider_keys),
                broker_is_away=lambda: self._publisher.broker_is_away,
                now=lambda: datetime.now(UTC),
                queue_is_full=QueueDepth(self._queued, most=config.max_queued_jobs).is_full,
                facts=self._facts.facts,
                routed=self._facts.routed,
                redis_answers=redis_probe(config.redis_url) if config.redis_url else None,
                secrets=SigningSecrets(self._engine, config.sealer) if config.sealer else None,
                webhook_allow_private=config.webhook_allow_private,
                fetch_allow_private=config.fetch_allow_private,
                files=ObjectStore(config.files),
                files_retention_s=config.files_retention_s,
                files_quota_bytes=config.files_quota_bytes,
                public_url=config.public_url,
            )
        )
        self._publisher.start()
        self._watcher.start()
        self._facts.start()

    def stop(self) -> None:
        """Lets every held request answer, and sends what is accepted and not yet sent."""
        self._watcher.stop()
        self._facts.stop()
        self._publisher.stop()
        self._engine.dispose()

    def _look(self, ids: Sequence[UUID], with_end: bool) -> list[Watched]:  # noqa: FBT001 - as the watcher calls it
        with statement(self._engine) as connection:
            return watch(connection, ids=ids, with_end=with_end)

    def _queued(self, most: int) -> int:
        with statement(self._engine) as connection:
            return queued_jobs(connection, most=most)

    def _find_key(self, key_hash: bytes) -> Principal | None:
        with statement(self._engine) as connection:
            return find_key(connection, key_hash=key_hash)


class InstalledModels:
    """Whether a model's pool runs here, its weights are there and its provider's key; a look at the disk is believed for two seconds."""

    def __init__(self, catalogue: Catalogue, models_dir: Path, pools: Collection[str], provider_keys: Collection[str]) -> None:
        self._looks = {
            name: Remembered(lambda name=name, model=model: lacking(name, model, models_dir, provider_keys) is None, ttl_s=INSTALLED_S)  # type: ignore[misc]
            for name, model in catalogue.models.items()
            if model.pool in pools
        }

    def __call__(self, model: str) -> bool:
        """True where nothing is lacking."""
        return model in self._looks and self._looks[model]()


def redis_probe(url: str) -> Callable[[], bool]:
    """A question to Redis or Valkey: whether it answers within a second."""
    client = Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            return False

    return answers
