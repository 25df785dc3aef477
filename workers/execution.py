"""Running claimed jobs in a child: micro-batches, bisecting, and writing what came of them.

One micro-batch is one ``infer`` call. It is never larger than the model's limits, holds one time-out class, and ends in the
database before the next begins. If ``infer`` raises, its halves run again until the culprit stands alone: only it spends a run.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import orjson
import structlog
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import DataError

from broker.publisher import Published
from domain.catalogue import ModelSpec, TaskSpec
from domain.contracts import Blob, TaskContract
from domain.failures import Failure, InferenceError, InvalidInput, InvalidOutput, ModelError, OutOfMemory, OutputTooLarge
from domain.ids import Prefix, encode
from domain.job import Status
from domain.usage import Usage
from models.queries.claim import ClaimedJob
from models.queries.finish import Ending, Return, finish_jobs, return_jobs
from workers.backends.base import Backend, Inference, Run
from workers.board import Place, Progress
from workers.cascade import escalated, escalated_for_its_shape
from workers.failover import failed, moved_to
from workers.job_files import JobFiles
from workers.journal import Journal
from workers.media import MediaResolver
from workers.patience import RECORD_FOR_S, patiently

log = structlog.get_logger(__name__)

JSON = "application/json"
MAX_TOKENS = 2**31 - 1  # what a column of the database holds
MOST_CHARS_TOGETHER = 32 * 1_048_576  # of outputs in one statement
Result = Inference | InferenceError


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed job with its input parsed, its index on the board, and its binary inputs once they are resolved."""

    job: ClaimedJob
    index: int
    value: Any
    items: int
    blobs: Mapping[str, Blob] | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What a dispatch runs on: one loaded model and the ways out.

    Attributes:
        write: writes what came of jobs; returns how many of them were still ours.
        count: told of the runs that ended together: tenant and outcome of each, and how many milliseconds they ran.
        engine: for what a run says meanwhile.
        began_before: whether a child that died may have run these jobs before, in the same attempt.
        media: resolves binary inputs; None where the contract has none.
        settle: says what an output that keeps the contract comes to, where that is not simply the end of its job.
        models: all that there are, for jobs that may go on with another one.
        publish: sends jobs on their way to another model; what it does not send, the relay does.
        note: told how runs that ended together went: the code of each that failed, None of each that gave a result.
        files: takes what jobs give that is no JSON, or too much of it; None where there is no such place.
    """

    model: ModelSpec
    task: TaskSpec
    contract: TaskContract
    backend: Backend
    write: Callable[[Sequence[Ending | Return]], int]
    count: Callable[[Sequence[tuple[UUID | None, Ending | Return]], float | None], None]
    engine: Engine
    place: Place
    began_before: bool = False
    media: MediaResolver | None = None
    settle: Callable[[ClaimedJob, Any], Ending | Return] | None = None
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    publish: Callable[[Sequence[Published]], None] = lambda _jobs: None
    note: Callable[[Sequence[str | None]], None] = lambda _codes: None
    files: JobFiles | None = None


def parse(bench: Bench, jobs: Sequence[ClaimedJob], index_of: Callable[[ClaimedJob], int]) -> tuple[list[Work], list[tuple[ClaimedJob, Failure]]]:
    """Reads the inputs; what the contract no longer takes (it changed since the submit), or chokes on, fails alone."""
    works: list[Work] = []
    refused: list[tuple[ClaimedJob, Failure]] = []
    for job in jobs:
        try:
            value = bench.contract.input.model_validate_json(job.input_json)
            works.append(Work(job, index_of(job), value, bench.contract.count_items(value)))
        except ValidationError as error:
            refused.append((job, Failure.of(InvalidInput(f"the input does not keep the contract: {error.error_count()} errors"))))
        except Exception as error:  # noqa: BLE001 - a contract's own code concerns this input alone
            refused.append((job, Failure.of(_mapped(error))))
    return works, refused


def plan(works: Sequence[Work], *, max_batch_size: int, max_batch_items: int) -> Iterator[list[Work]]:
    """Cuts work into micro-batches: one time-out class each, within both limits, jobs that must run alone last and alone.

    A single job over ``max_batch_items`` is a micro-batch of its own.
    """
    classes: defaultdict[float, list[Work]] = defaultdict(list)
    for work in works:
        if not work.job.solo:
            classes[work.job.timeout_s].append(work)
    for members in classes.values():
        batch: list[Work] = []
        items = 0
        for work in members:
            if batch and (len(batch) == max_batch_size or items + work.items > max_batch_items):
                yield batch
                batch, items = [], 0
            batch.append(work)
            items += work.items
        if batch:
            yield batch
    for work in works:
        if work.job.solo:
            yield [work]


def run(bench: Bench, works: Sequence[Work]) -> int:
    """Runs all of it; returns how many jobs ended or went back to the queue."""
    settled = 0
    for batch in plan(works, max_batch_size=bench.model.max_batch_size, max_batch_items=bench.model.max_batch_items):
        wanted = []
        for work in batch:
            stopped = bench.place.stopped(work.index)
            bench.place.set_progress(work.index, Progress.DONE if stopped else Progress.RUNNING)
            if not stopped:
                wanted.append(work)
        if wanted:
            bench.place.run_until(wanted[0].job.timeout_s)
            if bench.media is not None:
                wanted, ended = _resolve(bench, bench.media, wanted)
                settled += ended
        if wanted:
            settled += _run_micro_batch(bench, wanted)
    return settled


def _resolve(bench: Bench, media: MediaResolver, batch: Sequence[Work]) -> tuple[list[Work], int]:
    """Fetches the binary inputs, within the time-out of the attempt; a job whose inputs cannot be had ends its run here, without its mates.

    Returns:
        The works to run, and how many jobs ended or went back to the queue.
    """
    timeout_s = batch[0].job.timeout_s
    resolved = media.resolve([(work.job.id, work.value) for work in batch], bench.contract.media, timeout_s=timeout_s)
    failures = [(work, found) for work, found in zip(batch, resolved, strict=True) if isinstance(found, InferenceError)]
    ready = [replace(work, blobs=found) for work, found in zip(batch, resolved, strict=True) if not isinstance(found, InferenceError)]
    if not failures:
        return ready, 0
    bench.place.rest()
    settled = record(bench, failures)
    if ready:
        bench.place.run_until(timeout_s)
    return ready, settled


def _run_micro_batch(bench: Bench, batch: list[Work], *, again: bool = False) -> int:
    """Infers, bisecting on an exception, and records as soon as a part is through."""
    run_ms = 0.0
    try:
        results, run_ms = _infer(bench, batch, again=again or bench.began_before)
    except Exception as error:  # noqa: BLE001 - whatever a backend raises concerns this micro-batch alone
        if len(batch) > 1:
            log.warning("micro-batch failed; its halves run again", jobs=len(batch), error=type(error).__name__)
            half = len(batch) // 2
            return sum(_run_half(bench, part) for part in (batch[:half], batch[half:]))
        results = [_mapped(error)]
    bench.place.rest()
    return record(bench, list(zip(batch, results, strict=True)), run_ms=run_ms)


def _run_half(bench: Bench, batch: list[Work]) -> int:
    bench.place.run_until(batch[0].job.timeout_s)
    return _run_micro_batch(bench, batch, again=True)


def _infer(bench: Bench, batch: Sequence[Work], *, again: bool) -> tuple[Sequence[Result], float]:
    journal = Journal(bench.engine, [(work.job.id, work.job.fence) for work in batch], restarted=again)
    run = Run(
        attempts=[work.job.attempt for work in batch],
        should_stop=lambda index: bench.place.stopped(batch[index].index),
        emit_text=journal.text,
        emit_progress=journal.progress,
        blobs=[work.blobs or {} for work in batch] if bench.media else (),
        traceparents=[work.job.traceparent for work in batch],
    )
    saved: list[UUID] = []
    if (files := bench.files) is not None:

        def save(index: int, content: bytes, content_type: str) -> str:
            saved.append(files.save(batch[index].job, content, content_type))
            return encode(Prefix.FILE, saved[-1])

        run = replace(run, save=save)
    began_at = time.monotonic()
    results = bench.backend.infer([work.value for work in batch], run)
    run_ms = (time.monotonic() - began_at) * 1_000
    bench.place.rest()  # the run is over: waiting for the database to take what came of it costs it no time-out
    journal.flush()
    if files is not None and saved:
        files.keep(saved)
    if len(results) != len(batch):
        raise InvalidOutput(f"the backend gave {len(results)} results for {len(batch)} inputs")
    return results, run_ms


def _mapped(error: Exception) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory()
    log.error("backend raised", error=repr(error)[:500])
    return ModelError(f"{type(error).__name__}: {error}"[:500])


def record(bench: Bench, pairs: Sequence[tuple[Work, Result]], *, run_ms: float | None = None) -> int:
    """Writes the results of a micro-batch; a database that is away is waited for, up to a minute.

    The statement is conditional on the fence, so that running it again, or too late, does no harm. The runs are counted whether or not
    their jobs were still ours: the model ran.

    Args:
        bench: what it ran on.
        pairs: each job with its result.
        run_ms: how long the model took for all of them; None where it was not asked.

    Returns:
        How many of the jobs were still ours.
    """
    outcomes = [_settle(bench, work, result) for work, result in pairs]
    settled = bench.write(outcomes)
    if moved := [message for (work, _), outcome in zip(pairs, outcomes, strict=True) if (message := moved_to(work.job, outcome))]:
        bench.publish(moved)
    bench.count([(work.job.counts_for, outcome) for (work, _), outcome in zip(pairs, outcomes, strict=True)], run_ms)
    bench.note([_code(result, outcome) for (_, result), outcome in zip(pairs, outcomes, strict=True)])
    for work, _ in pairs:
        bench.place.set_progress(work.index, Progress.DONE)
    return settled


def _code(result: Result, outcome: Ending | Return) -> str | None:
    """Why a run failed; not why its job did, which may have another reason to end there."""
    if isinstance(result, InferenceError):
        return result.code
    return None if outcome.failure is None else outcome.failure.code


def write_outcomes(engine: Engine, outcomes: Sequence[Ending | Return], *, patience_s: float = RECORD_FOR_S) -> int:
    """Writes endings and returns, trying again while the database is away; returns how many were ours to write.

    Raises:
        DatabaseAway: for longer than ``patience_s``, which each statement may wait; the leases end meanwhile, and the reaper takes over.
        LockedRow: the same.
    """
    endings = [outcome for outcome in outcomes if isinstance(outcome, Ending)]
    returns = [outcome for outcome in outcomes if isinstance(outcome, Return)]
    settled = 0
    for together in _in_parts(endings):
        settled += _write_endings(engine, together, patience_s=patience_s)
    if returns:
        settled += patiently(engine, lambda connection: len(return_jobs(connection, returns=returns)), patience_s=patience_s)
    return settled


def _in_parts(endings: Sequence[Ending]) -> Iterator[list[Ending]]:
    """As many at a time as one message to the server may carry: it refuses one of a gigabyte by hanging up, and a backslash becomes four."""
    together: list[Ending] = []
    size = 0
    for ending in endings:
        more = len(ending.output_json or "")
        if together and size + more > MOST_CHARS_TOGETHER:
            yield together
            together, size = [], 0
        together.append(ending)
        size += more
    if together:
        yield together


def _write_endings(engine: Engine, endings: Sequence[Ending], *, patience_s: float) -> int:
    """Writes endings together; where the database refuses a value, one by one, and the job whose value it is fails for that."""
    try:
        return patiently(engine, lambda connection: len(finish_jobs(connection, endings=endings)), patience_s=patience_s)
    except DataError as error:
        if len(endings) > 1:
            return sum(_write_endings(engine, [ending], patience_s=patience_s) for ending in endings)
        if endings[0].failure is not None:
            raise
        log.warning("the database refused an output", error=str(error.orig)[:500])
        failure = Failure.of(InvalidOutput("the database cannot store the output"))
        refused = Ending(id=endings[0].id, fence=endings[0].fence, status=Status.FAILED, failure=failure, failure_counts=True)
        return _write_endings(engine, [refused], patience_s=patience_s)


def _settle(bench: Bench, work: Work, result: Result) -> Ending | Return:
    if isinstance(result, InferenceError):
        return _failed(bench, work, result)
    if not isinstance(result, Inference) or not isinstance(result.output, bench.contract.output):
        return _failed(bench, work, InvalidOutput(f"the backend gave a {type(getattr(result, 'output', result)).__name__}"))
    if bench.settle is not None:
        return bench.settle(work.job, result.output)
    return _finished(bench, work, result)


def _finished(bench: Bench, work: Work, result: Inference) -> Ending | Return:
    if not _countable(result.usage):
        return _failed(bench, work, InvalidOutput("the backend's counts of tokens are not whole numbers from 0 to 2,147,483,647"))
    try:
        output_json = orjson.dumps(result.output.model_dump(mode="json")).decode()
    except Exception as error:  # noqa: BLE001 - whatever a value cannot be written for concerns this job alone
        return _failed(bench, work, InvalidOutput(f"the output cannot be written as JSON: {error}"[:500], usage=result.usage))
    if len(output_json) > bench.task.max_output_bytes:
        too_large = f"the output has {len(output_json)} bytes; the limit is {bench.task.max_output_bytes}"
        return _failed(bench, work, OutputTooLarge(too_large, usage=result.usage))
    ending = Ending(
        id=work.job.id,
        fence=work.job.fence,
        status=Status.SUCCEEDED,
        output_json=output_json,
        input_tokens=result.usage.input_tokens,
        output_tokens=result.usage.output_tokens,
        cost_usd=bench.model.price.cost_usd(result.usage),
        may_be_child=work.job.parent_id is not None,
    )
    return escalated(work.job, ending, result.output, contract=bench.contract, models=bench.models) or _kept(bench, work, ending)


def _kept(bench: Bench, work: Work, ending: Ending) -> Ending | Return:
    """The ending, with an output too large for a row in a file of its own; if the store is away, the run has failed.

    A child's output stays in its row, whoever joins or compares it reads it there.
    """
    if bench.files is None or ending.may_be_child or ending.output_json is None or len(ending.output_json) <= bench.files.inline_bytes:
        return ending
    try:
        output_file = bench.files.save(work.job, ending.output_json.encode(), JSON)
        bench.files.keep([output_file])
    except InferenceError as error:
        return _failed(bench, work, error)
    return replace(ending, output_json="null", output_file=output_file)


def _countable(usage: Usage) -> bool:
    return all(type(count) is int and 0 <= count <= MAX_TOKENS for count in (usage.input_tokens, usage.output_tokens))


def _failed(bench: Bench, work: Work, error: InferenceError) -> Ending | Return:
    usage = error.usage
    cost_usd = bench.model.price.tokens_usd(usage) if _countable(usage) else None
    outcome = failed(work.job, Failure.of(error), models=bench.models, cost_usd=cost_usd, retry_after_s=error.retry_after_s)
    if usage != Usage() and cost_usd is not None:
        outcome = replace(outcome, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost_usd=cost_usd)
    return escalated_for_its_shape(work.job, outcome, models=bench.models) or outcome
