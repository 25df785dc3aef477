"""Running claimed jobs: micro-batches, bisecting, and what is written."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.catalogue import Price
from domain.contracts import load_contract
from domain.failures import InferenceError, ModelError, ProviderRateLimited
from domain.job import Outcome, Status
from domain.task_types.debug_echo import Input, Output
from domain.usage import Usage
from models.queries.finish import Ending, Return
from models.transactions import make_engine
from tests.support.worker_parts import claimed_job, worker_config
from workers.backends.base import Inference, Run
from workers.board import Board, Progress
from workers.execution import Bench, Work, parse, plan, record, run
from workers.journal import Journal

POISON = 13


class Backend:
    """Answers with the payload; raises if the poison is among the inputs; remembers what it was given."""

    def __init__(self, answer: Callable[[Sequence[Input]], Sequence[Any]] | None = None) -> None:
        self.batches: list[list[Any]] = []
        self._answer = answer

    def load(self, options: Any, files: Any) -> None: ...

    def unload(self) -> None: ...

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        self.batches.append([value.payload for value in inputs])
        if POISON in self.batches[-1]:
            raise RuntimeError("the runtime fell over")
        return self._answer(inputs) if self._answer else [Inference(Output(payload=value.payload)) for value in inputs]


class Shop:
    """A bench, and all that it has written."""

    def __init__(self, folder: Path, backend: Backend, *, max_batch_size: int = 64, **limits: Any) -> None:
        self.written: list[Ending | Return] = []
        self.counted: list[tuple[Ending | Return, float | None]] = []
        self.backend = backend
        config = worker_config(folder)
        catalogue = config.catalogue
        model = catalogue.models["echo"].model_copy(update={"max_batch_size": max_batch_size, **limits})
        task = catalogue.tasks["debug.echo"].model_copy(update={"max_output_bytes": 100})
        engine = make_engine(config.database_url, pool_size=1)  # nothing here connects
        self.place = Board.create(folder / "board", 1).place(0)
        self.bench = Bench(model, task, load_contract("domain.task_types.debug_echo"), backend, self._write, self._count, engine, self.place)

    def _write(self, outcomes: Sequence[Ending | Return]) -> int:
        self.written += outcomes
        return len(outcomes)

    def _count(self, outcomes: Sequence[tuple[UUID | None, Ending | Return]], run_ms: float | None) -> None:
        self.counted += [(outcome, run_ms) for _, outcome in outcomes]

    def works(self, *payloads: int, **fields: Any) -> list[Work]:
        return [Work(claimed_job(**fields), index, Input(payload=payload), 1) for index, payload in enumerate(payloads)]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, Backend())


# --- plan


def _sizes(works: Sequence[Work], **limits: int) -> list[int]:
    return [len(batch) for batch in plan(works, **{"max_batch_size": 4, "max_batch_items": 1_000, **limits})]


def _work(items: int = 1, **fields: Any) -> Work:
    return Work(claimed_job(**fields), 0, None, items)


@pytest.mark.parametrize(
    ("works", "limits", "sizes"),
    [
        ([_work() for _ in range(9)], {}, [4, 4, 1]),
        ([_work(items=3) for _ in range(5)], {"max_batch_items": 6}, [2, 2, 1]),
        ([_work(items=99), _work(), _work(items=99)], {"max_batch_items": 10}, [1, 1, 1]),
        ([_work(timeout_s=seconds) for seconds in (1.0, 60.0, 1.0)], {}, [2, 1]),
        ([_work(solo=True), _work(), _work(), _work(solo=True)], {}, [2, 1, 1]),
        ([], {}, []),
    ],
    ids=["count", "items", "one over the limit", "time-out classes", "solo", "nothing"],
)
def test_plan_keeps_the_limits(works: list[Work], limits: dict[str, int], sizes: list[int]) -> None:
    assert _sizes(works, **limits) == sizes
    assert {id(work) for batch in plan(works, max_batch_size=4, max_batch_items=10) for work in batch} == {id(work) for work in works}


@pytest.mark.parametrize("limits", [{"max_batch_items": 10}, {}], ids=["each fills one alone", "no bound of items"])
def test_plan_of_a_batch_has_as_many_micro_batches_as_its_model_says_at_most(tmp_path: Path, limits: dict[str, int]) -> None:
    model = Shop(tmp_path, Backend(), max_batch_size=8, **limits).bench.model
    works = [_work(items=10) for _ in range(8)]
    assert len(list(plan(works, max_batch_size=8, max_batch_items=model.max_batch_items))) == model.micro_batches


# --- bisecting


def _poison_hurts_itself_alone(shop: Shop, running: Callable[[Bench, Sequence[Work]], int]) -> None:
    works = shop.works(*range(8), POISON, *range(20, 27))

    running(shop.bench, works)

    outcome = {outcome.id: outcome for outcome in shop.written}
    assert len(shop.written) == len(outcome) == len(works), "each is written once"
    for work in works:
        written = outcome[work.job.id]
        if work.value.payload == POISON:
            assert isinstance(written, Return)
            assert (written.outcome, written.failure_counts) == (Outcome.FAILED, True)
        else:
            assert isinstance(written, Ending)
            assert (written.status, written.failure_counts) == (Status.SUCCEEDED, False)
            assert written.output_json == f'{{"payload":{work.value.payload}}}'


def test_poison_in_a_micro_batch_hurts_itself_alone(shop: Shop) -> None:
    _poison_hurts_itself_alone(shop, run)

    assert len(shop.backend.batches) == 9, "16 jobs are halved four times"
    assert [outcome for outcome, _ in shop.counted] == shop.written, "each job's run counts once, however often it was halved"


def test_without_bisecting_the_poison_hurts_all(shop: Shop) -> None:
    """Shows that ``test_poison_in_a_micro_batch_hurts_itself_alone`` can fail."""

    def run_without_bisecting(bench: Bench, works: Sequence[Work]) -> int:
        try:
            results = bench.backend.infer([work.value for work in works], Run([1] * len(works), lambda _: False, lambda *_: None, lambda *_: None))
        except RuntimeError as error:
            results = [ModelError(str(error))] * len(works)
        return record(bench, list(zip(works, results, strict=True)), run_ms=1.0)

    with pytest.raises(AssertionError):
        _poison_hurts_itself_alone(shop, run_without_bisecting)


def test_job_waits_as_long_as_its_error_asked_for(shop: Shop) -> None:
    (work,) = shop.works(1)

    record(shop.bench, [(work, ProviderRateLimited(retry_after_s=90.0))], run_ms=1.0)

    (written,) = shop.written
    assert isinstance(written, Return)
    assert written.delay_s == 90.0


@pytest.mark.parametrize(("failures", "kind"), [(0, Return), (2, Ending)])
def test_tokens_of_a_run_that_failed_are_counted_and_charged(tmp_path: Path, failures: int, kind: type) -> None:
    price = Price(per_job_usd=Decimal(1), per_million_input_tokens_usd=Decimal(2), per_million_output_tokens_usd=Decimal(3))
    shop = Shop(tmp_path, Backend(), price=price)
    (work,) = shop.works(1, failures=failures)

    record(shop.bench, [(work, ModelError(usage=Usage(1_000, 10)))])

    (written,) = shop.written
    assert isinstance(written, kind)
    assert (written.input_tokens, written.output_tokens, written.cost_usd) == (1_000, 10, Decimal("0.00203"))


@pytest.mark.parametrize("usage", [Usage(), Usage(-1, 2), Usage(2**31, 2)])
def test_tokens_of_a_run_that_failed_are_left_out_where_they_are_none(shop: Shop, usage: Usage) -> None:
    (work,) = shop.works(1)
    record(shop.bench, [(work, ModelError(usage=usage))])
    assert (shop.written[0].input_tokens, shop.written[0].cost_usd) == (None, None)


def test_poison_at_its_last_attempt_fails(shop: Shop) -> None:
    run(shop.bench, shop.works(POISON, failures=2, max_attempts=3))

    (ending,) = shop.written
    assert isinstance(ending, Ending)
    assert (ending.status, ending.failure and ending.failure.code) == (Status.FAILED, "model_error")


# --- what is written


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda _: [], "invalid_output"),
        (lambda inputs: [Inference(inputs[0])], "invalid_output"),
        (lambda _: [Inference(Output(payload="x" * 200))], "output_too_large"),
    ],
    ids=["too few", "another type", "too large"],
)
def test_bad_results_fail_for_good(tmp_path: Path, answer: Callable[[Sequence[Input]], Sequence[Any]], code: str) -> None:
    shop = Shop(tmp_path, Backend(answer))

    run(shop.bench, shop.works(1))

    (ending,) = shop.written
    assert isinstance(ending, Ending)
    assert ending.failure is not None
    assert (ending.status, ending.failure.code, ending.output_json) == (Status.FAILED, code, None)


def test_stopped_jobs_are_not_run(shop: Shop) -> None:
    works = shop.works(0, 1, 2)
    shop.place.stop(1)

    run(shop.bench, works)

    assert shop.backend.batches == [[0, 2]]
    assert len(shop.written) == 2
    assert {shop.place.progress(index) for index in range(3)} == {Progress.DONE}


def test_board_says_what_runs_and_until_when(tmp_path: Path) -> None:
    seen: list[tuple[list[Progress], bool]] = []
    shop: Shop

    def look(inputs: Sequence[Input]) -> Sequence[Inference]:
        seen.append(([shop.place.progress(index) for index in range(3)], shop.place.over_time))
        return [Inference(Output(payload=value.payload)) for value in inputs]

    shop = Shop(tmp_path, Backend(look), max_batch_size=2)
    works = shop.works(0, 1, 2, timeout_s=-1.0)
    for index in range(3):
        shop.place.set_progress(index, Progress.WAITING)
    run(shop.bench, works)

    assert seen == [([Progress.RUNNING, Progress.RUNNING, Progress.WAITING], True), ([Progress.DONE, Progress.DONE, Progress.RUNNING], True)]


def test_writing_results_costs_no_time_out(tmp_path: Path) -> None:
    """A database that is away for longer than the time-out must not make the watchdog kill what has already run."""
    shop = Shop(tmp_path, Backend())
    over_time: list[bool] = []
    write = shop.bench.write

    def slow(outcomes: Sequence[Ending | Return]) -> int:
        over_time.append(shop.place.over_time)
        return write(outcomes)

    bench = Bench(shop.bench.model, shop.bench.task, shop.bench.contract, shop.backend, slow, shop.bench.count, shop.bench.engine, shop.place)
    run(bench, shop.works(0, POISON, 2, timeout_s=-1.0))

    assert over_time
    assert not any(over_time)


def test_input_that_the_contract_no_longer_takes_fails_alone(shop: Shop) -> None:
    jobs = [claimed_job(), claimed_job(input_json='{"payload": 1, "was_a_field": true}')]

    works, refused = parse(shop.bench, jobs, jobs.index)

    assert [work.job for work in works] == [jobs[0]]
    assert [(job, failure.code) for job, failure in refused] == [(jobs[1], "invalid_input")]


# --- results that cannot be written


class Unwritable(Output):
    """Says that it is an output."""

    def model_dump(self, **_: Any) -> Any:
        raise ValueError("no")


@pytest.mark.parametrize(
    "bad",
    [None, Inference(Output(payload=1), Usage(input_tokens=1.5)), Inference(Output(payload=1), Usage(output_tokens=2**31)), Inference(Unwritable(payload=1))],  # type: ignore[arg-type]
    ids=["nothing", "fraction", "too many", "unwritable"],
)
def test_result_that_cannot_be_written_fails_alone(tmp_path: Path, bad: Any) -> None:
    shop = Shop(tmp_path, Backend(lambda inputs: [bad if value.payload == 2 else Inference(Output(payload=value.payload)) for value in inputs]))

    run(shop.bench, shop.works(1, 2, 3, max_attempts=1))

    endings = [outcome for outcome in shop.written if isinstance(outcome, Ending)]
    assert [ending.status for ending in endings] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    assert endings[1].failure is not None
    assert endings[1].failure.code == "invalid_output"


def test_time_is_not_over_while_results_are_written(tmp_path: Path) -> None:
    shop = Shop(tmp_path, Backend())
    seen: list[bool] = []

    class Patient(Journal):
        def flush(self) -> None:
            seen.append(shop.place.over_time)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.execution.Journal", Patient)
        run(shop.bench, shop.works(1, timeout_s=-1.0))

    assert seen == [False]
