"""What runs in a worker's child process: loading models, and a dispatch from claim to record.

Children start as fresh interpreters, so each builds its own context on its first call. The functions here are named in what
the main process sends through the pool; they must stay importable.
"""

import functools
import gc
import importlib
import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from broker.publisher import Published, Publisher
from broker.sender import Sender
from domain.catalogue import JOIN_TASK
from domain.contracts import MAX_TEXT_CHARS, TaskContract
from models.qualities import Qualities
from models.queries.claim import ClaimedJob, claim_jobs, held_jobs, prepare_to_claim
from models.queries.finish import Ending, Return, prepare_to_finish
from models.transactions import DatabaseAway, LockedRow, make_engine, statement
from storage.objects import ObjectStore
from telemetry.logs import configure_logging
from weights.store import installed, model_files
from workers.backends.base import Backend, Inference, Run, TakesContract, TakesEmbedder, TakesKey
from workers.board import Board, Place, Progress
from workers.breakers import Breakers
from workers.config import WorkerConfig
from workers.execution import Bench, parse, run, write_outcomes
from workers.failover import failed
from workers.job_files import JobFiles
from workers.joining import Joiner
from workers.media import BOUNDS, FETCHES, MediaResolver
from workers.outbound.client import OutboundClient
from workers.outbound.resolver import Resolver
from workers.patience import patiently
from workers.run_counter import RunCounter

log = structlog.get_logger(__name__)

PLACES_PER_SLOT = 8
BOARD_FILE = "board"
GC_ALLOCATIONS = 20_000  # between two looks for garbage; with Python's 700, a batch of 64 jobs paid for five of them


class ModelNotLoaded(Exception):
    """A backend's ``load`` raised; the message says which model's, and what."""


def limit_memory(mib: int) -> None:
    """Bounds what this process may allocate; 0 for not at all. Past the bound Python and Pillow raise ``MemoryError``.

    It is the data that are limited, not addresses: runtimes reserve far more of those than they use (ADR 0012).
    """
    if mib:
        resource.setrlimit(resource.RLIMIT_DATA, (mib * 1_048_576, resource.getrlimit(resource.RLIMIT_DATA)[1]))


class Context:
    """What one child keeps between dispatches."""

    def __init__(self, run_dir: Path) -> None:
        self.config = WorkerConfig.load(run_dir)
        configure_logging(self.config.log_level, self.config.log_format)
        pool = self.config.catalogue.pools.get(self.config.pool)
        limit_memory(pool.memory_limit_mib if pool else 0)
        name = f"millpond worker {self.config.pool}"
        self.engine: Engine = make_engine(self.config.database_url, pool_size=3, application_name=name, one_plan=True)
        self.board = Board(run_dir / BOARD_FILE, self.config.concurrency * PLACES_PER_SLOT)
        self.runs = RunCounter(self.engine)
        self.runs.start()
        self.breakers = Breakers(self.engine, self.config.catalogue.models)
        self.qualities = Qualities(self.engine, self.config.catalogue)
        self.files = JobFiles(self.engine, ObjectStore(self.config.files), self.config.output_inline_bytes)
        self._loaded: dict[str, Backend] = {}

    def backend(self, name: str) -> Backend:
        """The model's backend, loaded on first use."""
        if name not in self._loaded:
            model = self.config.catalogue.models[name]
            module, _, cls = model.backend.partition(":")
            try:
                backend: Backend = getattr(importlib.import_module(module), cls)()
                key = self.config.provider_keys.get(model.provider_key or "")
                if key is not None and isinstance(backend, TakesKey):
                    backend.take_key(key)
                if isinstance(backend, TakesEmbedder):
                    backend.take_embedder(functools.partial(self._embed, str(model.options.get("embedder"))))
                if isinstance(backend, TakesContract):
                    backend.take_contract(self.contract(name))
                backend.load(model.options, model_files(name, model, self.config.models_dir))
            except Exception as error:
                raise ModelNotLoaded(f"{name}: {type(error).__name__}: {error}") from error
            self._loaded[name] = backend
        return self._loaded[name]

    def _embed(self, name: str, texts: Sequence[str]) -> Sequence[Sequence[float]] | None:
        """Vectors by a model of another pool, which is loaded here when first they are wanted; None where it is not installed, or does not load."""
        model = self.config.catalogue.models.get(name)
        if model is None or not installed(name, model, self.config.models_dir):
            return None
        asked = self.contract(name).input.model_validate({"texts": [text[:MAX_TEXT_CHARS] for text in texts]})
        run = Run([1], lambda _: False, lambda *_: None, lambda *_: None)
        try:
            backend = self.backend(name)
        except ModelNotLoaded as error:
            log.warning("texts are compared by their words", error=str(error))
            return None
        (result,) = backend.infer([asked], run)
        return result.output.model_dump()["embeddings"] if isinstance(result, Inference) else None

    def publish(self, moved: Sequence[Published]) -> None:
        """Tells the workers of other models of jobs that go to them; what the broker does not take, the relay publishes."""
        if moved:
            self._publisher.offer(moved)

    @functools.cached_property
    def _publisher(self) -> Publisher:
        """Made, with its connection, when the first job goes to another model."""
        config = self.config
        ids_per_message = {name: model.ids_per_message for name, model in config.catalogue.models.items()}
        sender = Sender(config.broker_url, queue_type=config.queue_type)
        publisher = Publisher(sender=sender, engine=self.engine, ids_per_message=ids_per_message, mark_every_s=0.0)
        publisher.start()
        return publisher

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
        context.contract(name)
    _prepare(context.engine)
    gc.collect()
    gc.freeze()  # what was imported and loaded stays; looking through it again and again took a tenth of a child's time
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    return os.getpid()


def _prepare(engine: Engine) -> None:
    """Makes the connection that claims and finishes, and has it plan both, so that the first jobs do not wait for it.

    A database that is away, or has no tables yet, is no matter: whoever claims will see.
    """
    try:
        with statement(engine) as connection:
            prepare_to_claim(connection)
            prepare_to_finish(connection)
    except (DatabaseAway, LockedRow, DBAPIError) as error:
        log.warning("the first jobs will wait for their statements to be planned", error=str(error)[:500])


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
    context.backend(model_name)  # before the claim: what cannot be loaded claims nothing
    jobs, probing = _take(context, model_name, ids, owner=owner, solo=solo, resume=resume)
    model = context.config.catalogue.models[model_name]
    joiner = Joiner(context.engine, context.config.catalogue, context.qualities) if model.task == JOIN_TASK else None
    if joiner is not None:
        jobs = joiner.gather(jobs)
    claimed = {job.id for job in jobs}
    for position, job_id in enumerate(ids):
        place.set_progress(position, Progress.WAITING if job_id in claimed else Progress.DONE)
    if not jobs:
        return 0
    bench = _bench(context, model_name, jobs, place, joiner, resume=resume)
    settled = _run_claimed(context, model_name, jobs, bench, {job_id: index for index, job_id in enumerate(ids)})
    if probing:
        context.breakers.give_probe_back(model_name)  # if it is out still: the input was at fault, and said nothing of the model
    return settled


def _run_claimed(context: Context, model_name: str, jobs: Sequence[ClaimedJob], bench: Bench, index_of: Mapping[UUID, int]) -> int:
    """Runs and records what was claimed; returns how many jobs ended or went back to the queue."""

    def index(job: ClaimedJob) -> int:
        return index_of[job.id]

    works, refused = parse(bench, jobs, index)
    settled = 0
    if refused:
        outcomes = [failed(job, failure) for job, failure in refused]
        settled = bench.write(outcomes)
        context.runs.count(model_name, [(job.counts_for, outcome) for (job, _), outcome in zip(refused, outcomes, strict=True)])
        for job, _ in refused:
            bench.place.set_progress(index(job), Progress.DONE)
    return settled + run(bench, works)


def _take(context: Context, model_name: str, ids: Sequence[UUID], *, owner: str, solo: bool, resume: bool) -> tuple[list[ClaimedJob], bool]:
    """The jobs to run, and whether they are the probe of an open breaker."""
    may_hold, lease_s = resume, context.config.lease_s

    def take(connection: Connection) -> list[ClaimedJob]:
        nonlocal may_hold
        held, may_hold = may_hold, True  # a claim whose answer is lost with the connection may have happened
        claimed = claim_jobs(connection, ids=ids, model=model_name, owner=owner, lease_s=lease_s, solo=solo)
        return held_jobs(connection, ids=ids, owner=owner) if held else claimed

    jobs = patiently(context.engine, take)
    if jobs or resume:
        return jobs, False
    jobs = _probe(context, model_name, ids, owner=owner, solo=solo)
    return jobs, bool(jobs)  # giving back a probe that was none does no harm


def _bench(context: Context, model_name: str, jobs: Sequence[ClaimedJob], place: Place, joiner: Joiner | None, *, resume: bool) -> Bench:
    catalogue = context.config.catalogue
    model, contract = catalogue.models[model_name], context.contract(model_name)

    def count(outcomes: Sequence[tuple[UUID | None, Ending | Return]], run_ms: float | None) -> None:
        context.runs.count(model_name, outcomes, run_ms=run_ms)

    return Bench(
        model,
        catalogue.tasks[model.task],
        contract,
        context.backend(model_name),
        functools.partial(write_outcomes, context.engine) if joiner is None else joiner.write,
        count,
        context.engine,
        place,
        began_before=resume,
        media=context.media if contract.media else None,
        models=catalogue.models,
        publish=context.publish,
        note=functools.partial(context.breakers.note, model_name, doubted=jobs[0].doubted),
        files=context.files,
        settle=None if joiner is None else joiner.settle,
    )


def _probe(context: Context, model_name: str, ids: Sequence[UUID], *, owner: str, solo: bool) -> list[ClaimedJob]:
    """What may run where a claim gave nothing: one job, if the model's breaker is open and due to be tried. The others go elsewhere, untried.

    Where no breaker is open the message spoke of what is no longer so, or the breaker has closed since, which another claim tells. What a database
    that is away leaves behind here is queued, and the sweep finds it.
    """
    task = context.config.catalogue.tasks[context.config.catalogue.models[model_name].task]
    jobs: list[ClaimedJob] = []
    try:
        probe_s = task.timeout_s + context.config.lease_s
        ours = context.breakers.may_probe(model_name, probe_s=probe_s)
        claim = functools.partial(claim_jobs, model=model_name, owner=owner, lease_s=context.config.lease_s, solo=solo)
        if ours is None:
            with statement(context.engine) as connection:
                return claim(connection, ids=ids)
        if ours:
            for job_id in ids:
                with statement(context.engine) as connection:
                    jobs = claim(connection, ids=[job_id], probe=True)
                if jobs:
                    break
            else:
                context.breakers.give_probe_back(model_name)
        others = [job_id for job_id in ids if job_id not in {job.id for job in jobs}]
        context.publish(context.breakers.divert(model_name, others, probe_s=probe_s))
    except (DatabaseAway, LockedRow) as error:
        log.warning("jobs behind an open breaker are left to the sweep", model=model_name, error=str(error))
    return jobs
