"""What runs in a worker's child process: loading models, and a dispatch from claim to record.

Children start as fresh interpreters, so each builds its own context on its first call. The functions here are named in what
the main process sends through the pool; they must stay importable.
"""

import functools
import gc
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from domain.contracts import TaskContract
from models.queries.claim import ClaimedJob, claim_jobs, held_jobs
from models.session import make_engine
from storage.objects import ObjectStore
from telemetry.logs import configure_logging
from weights.store import model_files
from workers.backends.base import Backend, TakesKey
from workers.board import Board, Progress
from workers.config import WorkerConfig
from workers.execution import Bench, failed, parse, run, write_outcomes
from workers.job_files import JobFiles
from workers.media import BOUNDS, FETCHES, MediaResolver
from workers.outbound.client import OutboundClient
from workers.outbound.resolver import Resolver
from workers.patience import patiently

log = structlog.get_logger(__name__)

PLACES_PER_SLOT = 8
BOARD_FILE = "board"
GC_ALLOCATIONS = 20_000  # between two looks for garbage; with Python's 700, a batch of 64 jobs paid for five of them


class ModelNotLoaded(Exception):
    """A backend's ``load`` raised; the message says which model's, and what."""


class Context:
    """What one child keeps between dispatches."""

    def __init__(self, run_dir: Path) -> None:
        self.config = WorkerConfig.load(run_dir)
        configure_logging(self.config.log_level, self.config.log_format)
        self.engine: Engine = make_engine(self.config.database_url, pool_size=2, application_name=f"millpond worker {self.config.pool}")
        self.board = Board(run_dir / BOARD_FILE, self.config.concurrency * PLACES_PER_SLOT)
        self.files = JobFiles(self.engine, ObjectStore(self.config.files), self.config.output_inline_bytes)
        self._loaded: dict[str, Backend] = {}

    def backend(self, name: str) -> Backend:
        """The model's backend, loaded on first use."""
        if name not in self._loaded:
            model = self.config.catalogue.models[name]
            module, _, cls = model.backend.partition(":")
            try:
                backend: Backend = getattr(importlib.import_module(module), cls)()
                key = self.config.provider_keys.get(str(model.options.get("key")))
                if key is not None and isinstance(backend, TakesKey):
                    backend.take_key(key)
                backend.load(model.options, model_files(name, model, self.config.models_dir))
            except Exception as error:
                raise ModelNotLoaded(f"{name}: {type(error).__name__}: {error}") from error
            self._loaded[name] = backend
        return self._loaded[name]

    @functools.cached_property
    def media(self) -> MediaResolver:
        """What resolves binary inputs; made when the first job has one."""
        client = OutboundClient(Resolver(threads=FETCHES), allow_private=self.config.fetch_allow_private, bounds=BOUNDS)
        return MediaResolver(client, self.files.store, self.files.find)

    def contract(self, name: str) -> TaskContract:
        """The contract of the model's task."""
        return self.config.catalogue.contracts[self.config.catalogue.models[name].task]


@functools.cache
def _context(run_dir: str) -> Context:
    return Context(Path(run_dir))


def load_models(run_dir: str, names: Sequence[str]) -> int:
    """Loads models; the worker is not ready before this has succeeded in its children.

    Returns:
        The child's pid.

    Raises:
        ModelNotLoaded: a backend's ``load`` raised.
    """
    context = _context(run_dir)
    for name in names:
        context.backend(name)
    gc.collect()
    gc.freeze()  # what was imported and loaded stays; looking through it again and again took a tenth of a child's time
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    return os.getpid()


def run_dispatch(  # noqa: PLR0917 - what goes through the pool goes by position
    run_dir: str,
    place_number: int,
    owner: str,
    model_name: str,
    ids: Sequence[UUID],
    solo: bool,  # noqa: FBT001
    resume: bool,  # noqa: FBT001
    dispatch_number: int,
) -> int:
    """Claims what can be claimed of ``ids``, runs it and records it.

    Args:
        run_dir: the worker's folder.
        place_number: the dispatch's place on the board.
        owner: what the leases will be held as.
        model_name: the model that the message named.
        ids: at most ``board.MAX_JOBS``.
        solo: whether the message was sent for one job that must run alone.
        resume: whether ``owner`` may hold some of them already, from a child that died.
        dispatch_number: whose place it is; the call may come so late that the place is another's.

    Returns:
        How many jobs ended or went back to the queue.

    Raises:
        ModelNotLoaded: the backend's ``load`` raised.
        DatabaseAway: nothing could be claimed, or results could not be written, for a minute.
    """
    context = _context(run_dir)
    place = context.board.place(place_number)
    if place.dispatch_number != dispatch_number:
        return 0
    place.enter(os.getpid())
    backend = context.backend(model_name)
    model = context.config.catalogue.models[model_name]
    lease_s = context.config.lease_s
    may_hold = resume

    def take(session: Session) -> list[ClaimedJob]:
        nonlocal may_hold
        held, may_hold = may_hold, True  # a claim whose answer is lost with the connection may have happened
        claimed = claim_jobs(session, ids=ids, model=model_name, owner=owner, lease_s=lease_s, solo=solo)
        return held_jobs(session, ids=ids, owner=owner) if held else claimed

    jobs = patiently(context.engine, take)
    index_of = {job_id: index for index, job_id in enumerate(ids)}
    claimed = {job.id for job in jobs}
    for job_id, position in index_of.items():
        place.set_progress(position, Progress.WAITING if job_id in claimed else Progress.DONE)
    if not jobs:
        return 0
    write = functools.partial(write_outcomes, context.engine)
    contract = context.contract(model_name)
    bench = Bench(
        model,
        context.config.catalogue.tasks[model.task],
        contract,
        backend,
        write,
        context.engine,
        place,
        began_before=resume,
        media=context.media if contract.media else None,
        files=context.files,
    )

    def index(job: ClaimedJob) -> int:
        return index_of[job.id]

    works, refused = parse(bench, jobs, index)
    settled = 0
    if refused:
        settled = write([failed(job, failure) for job, failure in refused])
        for job, _ in refused:
            place.set_progress(index(job), Progress.DONE)
    return settled + run(bench, works)
