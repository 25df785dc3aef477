"""Cascades: cheap first, up where an answer is not sure enough, and what that saved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.catalogue import Catalogue, parse_catalogue
from domain.contracts import load_contract
from domain.routing.cascade import Cascade
from domain.routing.failover import Plan
from models.transactions import make_engine
from tests.support.api import make_api
from tests.support.echoes import echoes
from tests.support.in_process import InProcessWorker
from tests.support.jobs import assert_promises, look
from tests.support.mills import Mill, id_of

LIAR = "tests.support.liar:Liar"


def unsure(confidence: float, price: str, **more: Any) -> dict[str, Any]:
    return {"backend": LIAR, "options": {"says": {"confidence": confidence}}, "price": {"per_job_usd": price}, **more}


def catalogue() -> Catalogue:
    document = echoes({"dear": unsure(0.95, "0.1"), "middle": unsure(0.6, "0.01"), "cheap": unsure(0.3, "0.001", pool="far")})
    document["models"]["misfit"] = {
        "task": "debug.echo",
        "pool": "debug",
        "backend": "tests.support.liar:Misfit",
        "version": "1",
        "price": {"per_million_output_tokens_usd": "1000"},
    }
    document["tasks"]["audio.speech"] = {"contract": "domain.task_types.audio_speech", "default_model": "speaker"}
    document["models"]["speaker"] = {"task": "audio.speech", "pool": "debug", "backend": "nowhere:Speaker", "version": "1"}
    return parse_catalogue(document)


@pytest.fixture
def mill(database_url: str, tmp_path: Path) -> Iterator[Mill]:
    engine = make_engine(database_url, pool_size=8)
    worker = InProcessWorker(tmp_path / "worker", database_url, catalogue())
    yield Mill(make_api(engine, catalogue=catalogue()), worker)
    worker.close()
    engine.dispose()


def submit(mill: Mill, cascade: dict[str, Any], **fields: Any) -> Any:
    answer = mill.api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, "cascade": cascade, **fields})
    assert answer.status_code == 202, answer.text
    return answer.json


def climb(mill: Mill, job: Any) -> Any:
    """Runs the job by whatever model it is at, until it has ended."""
    for _ in range(5):
        job = mill.look(job)
        if job["status"] != "queued":
            return job
        mill.worker.run(job["model"], id_of(job))
    return job


@pytest.mark.parametrize(
    ("min_confidence", "models", "cost", "saved"),
    [
        (0.2, ["cheap"], "0.001", "0.099"),
        (0.5, ["cheap", "middle"], "0.011", "0.089"),
        (0.9, ["cheap", "middle", "dear"], "0.111", "-0.011"),
        (1.0, ["cheap", "middle", "dear"], "0.111", "-0.011"),
    ],
)
def test_cascade_goes_up_until_an_answer_is_sure_enough(mill: Mill, min_confidence: float, models: list[str], cost: str, saved: str) -> None:
    job = submit(mill, {"models": ["cheap", "middle", "dear"], "min_confidence": min_confidence}, max_attempts=1)
    assert (job["model"], job["cascade"]["models"], job["cascade"]["steps"]) == ("cheap", ["cheap", "middle", "dear"], [])

    done = climb(mill, job)

    sure = {"cheap": 0.3, "middle": 0.6, "dear": 0.95}
    price = {"cheap": "0.001", "middle": "0.01", "dear": "0.1"}
    assert (done["status"], done["model"], done["output"]) == ("succeeded", models[-1], {"payload": {"confidence": sure[models[-1]]}})
    steps = done["cascade"]["steps"]
    assert [(step["model"], step["confidence"], step["cost_usd"]) for step in steps] == [(name, sure[name], price[name]) for name in models]
    assert [step["outcome"] for step in steps] == ["low_confidence"] * (len(models) - 1) + ["answered"]
    assert (done["cascade"]["cost_usd"], done["cascade"]["saved_usd"], done["usage"]["cost_usd"]) == (cost, saved, cost)
    kept = look(mill.engine, id_of(job))
    assert [attempt.outcome for attempt in kept.attempts] == ["escalated"] * (len(models) - 1) + ["succeeded"]
    assert (kept.row.failures, kept.row.pool) == (0, "far" if models == ["cheap"] else "debug"), "going up spends nothing"
    assert_promises(kept)


def test_cascade_without_names_asks_the_cheapest_first(mill: Mill) -> None:
    assert submit(mill, {})["cascade"]["models"] == ["misfit", "cheap", "middle", "dear"]


def test_answer_that_does_not_keep_the_contract_goes_up_and_spends_no_attempt(mill: Mill) -> None:
    done = climb(mill, submit(mill, {"models": ["misfit", "dear"]}, max_attempts=1))

    assert (done["status"], done["model"], done["usage"]["cost_usd"]) == ("succeeded", "dear", "0.103")
    assert [(step["model"], step["outcome"], step["confidence"], step["cost_usd"]) for step in done["cascade"]["steps"]] == [
        ("misfit", "invalid_output", None, "0.003"),
        ("dear", "answered", 0.95, "0.1"),
    ]
    kept = look(mill.engine, id_of(done))
    assert [(attempt.outcome, (attempt.error or {}).get("code")) for attempt in kept.attempts] == [("escalated", "invalid_output"), ("succeeded", None)]
    assert climb(mill, submit(mill, {"models": ["dear", "misfit"], "min_confidence": 1.0}, max_attempts=1))["error"]["code"] == "invalid_output"


def test_cascade_of_named_models_keeps_their_order_and_so_does_its_rerun(mill: Mill) -> None:
    job = submit(mill, {"models": ["middle", "cheap"]})
    done = climb(mill, job)

    assert ([step["model"] for step in done["cascade"]["steps"]], done["model"]) == (["middle", "cheap"], "cheap")
    again = mill.api.post(f"/v1/jobs/{job['id']}/rerun").json
    assert (again["cascade"]["models"], again["model"]) == (["middle", "cheap"], "middle")
    assert mill.api.post(f"/v1/jobs/{job['id']}/rerun", {"model": "dear"}).json["cascade"] is None


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"cascade": {"models": ["cheap"]}}, "too_few", "/cascade/models"),
        ({"cascade": {"models": ["cheap", "none"]}}, "unknown_model", "/cascade/models/1"),
        ({"cascade": {"models": ["cheap", "cheap"]}}, "invalid_value", "/cascade/models/1"),
        ({"cascade": {"min_confidence": 2}}, "out_of_range", "/cascade/min_confidence"),
        ({"cascade": {}, "model": "cheap"}, "conflicting_fields", "/model"),
        ({"cascade": {}, "route": {}}, "conflicting_fields", "/route"),
        ({"cascade": {}, "consensus": {"n": 2}}, "conflicting_fields", "/consensus"),
        ({"task": "audio.speech", "input": {"text": "hello"}, "cascade": {}}, "not_available", "/cascade"),
        ({"task": "audio.speech", "input": {"text": "hello"}, "cascade": {}}, "out_of_range", "/cascade"),
    ],
)
def test_cascade_that_cannot_be_is_refused(mill: Mill, fields: dict[str, Any], code: str, pointer: str) -> None:
    answer = mill.api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, **fields})
    found = {(error["pointer"], error["code"]) for error in answer.json["errors"]}
    assert (answer.status_code, (pointer, code) in found) == (422, True), answer.text


@pytest.mark.parametrize(
    ("now_on", "failed", "known", "above"),
    [
        ("a", set(), "abc", "b"),
        ("a", {"b"}, "abc", "c"),
        ("a", set(), "ac", "c"),
        ("b", {"a"}, "abc", "c"),
        ("c", {"a"}, "abc", None),
        ("x", set(), "abc", None),
    ],
)
def test_next_up_is_the_first_above_that_is_left(now_on: str, failed: set[str], known: str, above: str | None) -> None:
    cascade = Cascade(("a", "b", "c"), 0.8)
    assert cascade.next_up(Plan(order=["a", "b", "c"], failed=frozenset(failed)), now_on=now_on, known=known) == above


@pytest.mark.parametrize(
    ("task", "output", "confidence"),
    [
        ("text_sentiment", {"label": "positive", "score": 0.7, "scores": {"positive": 0.7, "neutral": 0.2, "negative": 0.1}}, 0.7),
        ("text_generation", {"text": "cut o", "finish_reason": "length"}, 0.0),
        ("text_generation", {"text": "whole", "finish_reason": "stop"}, 1.0),
        ("text_zero_shot", {"label": "a", "scores": {"a": 0.6, "b": 0.4}}, 0.6),
        ("image_ocr", {"text": "", "lines": []}, 1.0),
        ("debug_echo", {"payload": {"confidence": 7}}, 1.0),
        ("debug_echo", {"payload": "?"}, 1.0),
    ],
)
def test_confidence_is_what_the_contract_says(task: str, output: dict[str, Any], confidence: float) -> None:
    contract = load_contract(f"domain.task_types.{task}")
    assert contract.confidence is not None
    assert contract.confidence(contract.output.model_validate(output)) == confidence
