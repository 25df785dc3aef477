"""A real model: how much of what a bare loop over it reaches is left when jobs come through the platform?

Both run on the same cores: as many processes as the pool has children, the catalogue's options, batches of the catalogue's size,
one text of some 480 characters a job. The loop has its texts in memory and throws the vectors away; the platform takes each job
from the broker, claims it, parses it, stores 384 floats and acknowledges.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

from benchmarks.harness.load import BenchmarkFailed, drive
from benchmarks.harness.report import Finding, median, spread
from benchmarks.harness.servers import Servers
from benchmarks.harness.stacks import CHILDREN, TEXT, Millpond
from benchmarks.sections.peers import CONNECTIONS
from domain.catalogue import Catalogue
from settings import load_catalogue, load_settings
from weights.pull import pull_models
from weights.store import model_files

TASK = "text.embedding"
LOOP_S = 20.0  # and about as long for the platform; its last batches end a second apart
BATCHES_AT_LEAST = 8
SUBMIT_WITHIN_S = 60.0
FLOOR = 0.8
_BEGUN = "SELECT EXISTS (SELECT FROM jobs WHERE started_at IS NOT NULL)"


def measure(servers: Servers, *, pairs: int, say: Callable[[str], None]) -> list[Finding]:
    """The loop and the platform, turn and turn about."""
    settings = load_settings()
    catalogue = load_catalogue(settings)
    model = catalogue.tasks[TASK].default_model
    pull_models(catalogue, settings.state_dir.absolute() / "models", report=say, names=[model])
    bare, platform = [], []
    for pair in range(pairs):
        bare.append(_bare_loop(model))
        platform.append(_platform(servers, catalogue, model, like_per_s=bare[-1].per_s))
        say(f"  {pair + 1}. {model}: bare loop {bare[-1]}, platform {platform[-1]}")
    loop_per_s, per_s = [speed.per_s for speed in bare], [speed.per_s for speed in platform]
    loop_cpu_ms, cpu_ms = [speed.cpu_ms for speed in bare], [speed.cpu_ms for speed in platform]
    ratio = median(per_s) / median(loop_per_s)
    return [
        Finding(f"{TASK}, jobs/s on {CHILDREN} children", spread(per_s, 1), spread(loop_per_s, 1), f"{ratio:.2f}×", f"≥ {FLOOR:g}×", ratio >= FLOOR),
        Finding("CPU ms a job, worker and children", spread(cpu_ms, 1), spread(loop_cpu_ms, 1), f"{median(cpu_ms) / median(loop_cpu_ms):.2f}×"),
    ]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast it went, and what it took: the second is disturbed less by what else the machine does."""

    per_s: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.per_s:,.1f} jobs/s, {self.cpu_ms:,.1f} ms of CPU each"


def _platform(servers: Servers, catalogue: Catalogue, model: str, *, like_per_s: float) -> Speed:
    """Jobs a second from a backlog that lasts about as long as the loop did, in whole batches."""
    size = catalogue.models[model].max_batch_size
    batches = max(BATCHES_AT_LEAST, round(like_per_s * LOOP_S / size))
    pool = catalogue.models[model].pool
    with (
        servers.database("embedding") as database_url,
        servers.vhost() as broker_url,
        Millpond(database_url, broker_url, task=TASK, job_input={"texts": [TEXT]}, pool=pool) as stack,
    ):
        stack.start_api()
        mark = stack.mark()
        load = drive(stack.port, stack.submit, number=CONNECTIONS, for_s=SUBMIT_WITHIN_S, most=batches * size)
        stack.wait_until_published()
        stack.database.vacuum()
        stack.stop_part("api")  # the loop beside it has no idle processes either
        stack.start_workers()
        stack.database.wait_for(_BEGUN, within_s=60, alive=stack.check, every_s=0.02)
        worker = stack.processes["worker"]
        before_s = worker.cpu_s()
        run = stack.finished_since(mark, within_s=600, jobs=load.answers[202])
        return Speed(run.per_s, (worker.cpu_s() - before_s) / run.jobs * 1_000)


def _bare_loop(model: str) -> Speed:
    """Over all processes."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(CHILDREN)
    with context.Pool(CHILDREN, initializer=_remember, initargs=(start,)) as pool:
        done = pool.map(_loop, [model] * CHILDREN, chunksize=1)
    return Speed(sum(per_s for per_s, _ in done), sum(cpu_ms for _, cpu_ms in done) / CHILDREN)


_start: Barrier | None = None


def _remember(start: Barrier) -> None:
    global _start  # noqa: PLW0603 - a barrier reaches a pool's processes only while they begin
    _start = start


def _loop(name: str) -> tuple[float, float]:
    import importlib  # noqa: PLC0415 - in the loop's own process

    from workers.backends.base import Backend, Run  # noqa: PLC0415

    settings = load_settings()
    catalogue = load_catalogue(settings)
    model = catalogue.models[name]
    module, _, cls = model.backend.partition(":")
    backend: Backend = getattr(importlib.import_module(module), cls)()
    backend.load(model.options, model_files(name, model, settings.state_dir.absolute() / "models"))
    value = catalogue.contracts[model.task].input.model_validate({"texts": [TEXT]})
    inputs = [value] * model.max_batch_size
    run = Run(attempts=[1] * len(inputs), should_stop=lambda _job: False, emit_text=lambda *_: None, emit_progress=lambda *_: None)
    if _start is None:
        raise BenchmarkFailed("the loop was not started by its pool")
    _start.wait(60)
    began, began_cpu, jobs = time.monotonic(), time.process_time(), 0
    while (elapsed_s := time.monotonic() - began) < LOOP_S:
        backend.infer(inputs, run)
        jobs += len(inputs)
    return jobs / elapsed_s, (time.process_time() - began_cpu) / jobs * 1_000
