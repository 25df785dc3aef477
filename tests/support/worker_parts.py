"""Parts of a worker without processes: a pool that only notes what it is given, messages, claimed jobs, a board."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from billiard.exceptions import WorkerLostError

from domain.catalogue import parse_catalogue
from domain.messages import JobsMessage
from models.identity import new_id
from models.queries.claim import ClaimedJob
from storage.objects import StoreLocation
from tests.support.jobs import TENANT
from tests.support.platform import echo_catalogue
from workers.batcher import Batcher
from workers.board import Board, Place, Progress
from workers.child import PLACES_PER_SLOT, load_models
from workers.config import WorkerConfig
from workers.dispatch import Dispatch, Kill


def worker_config(folder: Path, *, concurrency: int = 1, max_batch_size: int = 64, lease_s: float = 30.0) -> WorkerConfig:
    """A worker of the echo's pool; nothing it names is there."""
    return WorkerConfig(
        name="w",
        pool="debug",
        concurrency=concurrency,
        database_url="postgresql://nobody@127.0.0.1:9/none",
        broker_url="amqp://127.0.0.1:9//",
        catalogue=parse_catalogue(tomllib.loads(echo_catalogue(max_batch_size=max_batch_size))),
        run_dir=folder,
        models_dir=folder,
        files=StoreLocation((folder / "files").as_uri()),
        lease_s=lease_s,
    )


def claimed_job(**fields: Any) -> ClaimedJob:
    """A job in its first attempt."""
    values: dict[str, Any] = {
        "id": new_id(), "tenant_id": TENANT, "fence": 1, "attempt": 1, "failures": 0, "crashes": 0, "max_attempts": 3, "timeout_s": 60.0, "retention_s": 60.0,
        "task": "debug.echo", "solo": False, "input_json": '{"payload": 1}',
    }  # fmt: skip
    return ClaimedJob(**{**values, **fields})


class Message:
    """What the broker delivers; knows whether it was acknowledged."""

    def __init__(self, *ids: UUID, lane: str = "standard", model: str = "echo", solo: bool = False, body: object = None) -> None:
        self.payload: Any = [[body if body is not None else JobsMessage(model, ids, solo).encode()], {}, {}]
        self.delivery_info = {"routing_key": f"debug.{lane}"}
        self.acknowledged = 0

    def ack(self) -> None:
        self.acknowledged += 1


@dataclass
class Given:
    """One thing that a pool was asked to run."""

    target: Callable[..., Any]
    args: Sequence[Any]
    options: dict[str, Any]

    @property
    def ids(self) -> list[UUID]:
        return list(self.args[4])

    @property
    def owner(self) -> str:
        return str(self.args[2])

    @property
    def resumes(self) -> bool:
        return bool(self.args[6])

    def accept(self) -> None:
        """A child has begun."""
        self.options["accept_callback"](1, 0.0)

    def succeed(self, settled: int | None = None) -> None:
        """The child has returned."""
        self.options["callback"](len(self.ids) if settled is None else settled)

    def fail(self, error: BaseException) -> None:
        """The child raised, or died."""
        self.options["error_callback"](SimpleNamespace(type=type(error), exception=repr(str(error))))

    def die(self) -> None:
        self.fail(WorkerLostError("signal 9"))


class Pool:
    """Notes what it is given; ``closing`` makes it refuse, as Celery's does in a warm shutdown."""

    def __init__(self) -> None:
        self.given: list[Given] = []
        self.closing = False

    def apply_async(self, target: Callable[..., Any], args: Sequence[Any], **options: Any) -> Any:
        if self.closing:
            return None
        self.given.append(Given(target, args, options))
        return self.given[-1]

    @property
    def last(self) -> Given:
        return self.given[-1]


@dataclass
class Rack:
    """A batcher on a pool that runs nothing, and what it said to its owner."""

    config: WorkerConfig
    pool: Pool = field(default_factory=Pool)
    now: float = 0.0
    died: list[Dispatch] = field(default_factory=list)
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    ready: int = 0
    hopeless: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.board = Board.create(self.config.run_dir / "board", self.config.concurrency * PLACES_PER_SLOT)
        self.batcher = Batcher(
            self.config, self.board, on_died=self.died.append, on_ready=self._on_ready, on_hopeless=self.hopeless.append, clock=lambda: self.now
        )
        self.connect()

    def connect(self) -> None:
        """A connection, the first or another."""
        self.batcher.rebind(self.pool, (ConnectionError,), lambda delay_s, call: self.later.append((delay_s, call)))

    def load(self) -> None:
        """All children load their models."""
        self.batcher.begin()
        for pid, probe in enumerate(self.pool.given):
            assert probe.target is load_models
            probe.options["callback"](pid)
        self.pool.given.clear()

    def deliver(self, *messages: Message) -> None:
        for message in messages:
            self.batcher.receive(message)
        self.batcher.flush()

    def _on_ready(self) -> None:
        self.ready += 1


def dispatch_of(place: Place, *progress: Progress, kill: Kill | None = None, pid: int = 7, solo: bool = False) -> Dispatch:
    """A dispatch whose child came so far with each job; 0 for a child that never began."""
    place.clear()
    if pid:
        place.enter(pid)
    for index, state in enumerate(progress):
        place.set_progress(index, state)
    return Dispatch(
        owner="w:1", model="echo", ids=[new_id() for _ in progress], solo=solo, resume=False, place=place, place_number=0, acknowledge=lambda: None, kill=kill
    )
