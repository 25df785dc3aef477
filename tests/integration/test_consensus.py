"""Jobs that several models answer, from the request to the joined answer, with the real code of a worker's child."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api.facts_board import FactsBoard
from domain.catalogue import Catalogue, parse_catalogue
from models.qualities import Qualities
from models.queries.reviews import open_reviews
from models.transactions import make_engine, statement
from tests.support.api import make_api
from tests.support.echoes import echoes
from tests.support.in_process import InProcessWorker
from tests.support.jobs import assert_promises, claim, lapse_lease, look, run_sql, score, succeed
from tests.support.mills import Mill, id_of
from workers.joining import Joiner
from workers.maintenance.orphan_canceler import OrphanCanceler
from workers.maintenance.reaper import Reaper

LIAR = "tests.support.liar:Liar"
MODELS: dict[str, dict[str, Any]] = {
    "one": {"quality": 0.5, "price": {"per_job_usd": "0.001"}},
    "two": {"quality": 0.6, "price": {"per_job_usd": "0.002"}},
    "liar": {"quality": 0.9, "backend": LIAR, "options": {"says": "a lie"}, "price": {"per_job_usd": "0.004"}, "lacks": ["fail_attempts"]},
    "other-liar": {"quality": 0.1, "backend": LIAR, "options": {"says": "another lie"}},
}


def catalogue() -> Catalogue:
    document = echoes(MODELS)
    document["pools"]["join"] = {}
    document["tasks"]["consensus.join"] = {"contract": "domain.task_types.consensus_join", "default_model": "consensus", "internal": True}
    document["tasks"]["audio.speech"] = {"contract": "domain.task_types.audio_speech", "default_model": "speaker"}
    document["models"]["consensus"] = {"task": "consensus.join", "pool": "join", "backend": "workers.backends.join:Join", "version": "1", "max_batch_size": 4}
    document["models"]["speaker"] = {"task": "audio.speech", "pool": "debug", "backend": "nowhere:Speaker", "version": "1"}
    return parse_catalogue(document)


@pytest.fixture
def mill(database_url: str, tmp_path: Path) -> Iterator[Mill]:
    engine = make_engine(database_url, pool_size=8)
    worker = InProcessWorker(tmp_path / "worker", database_url, catalogue())
    yield Mill(make_api(engine, catalogue=catalogue()), worker)
    worker.close()
    engine.dispose()


def models_of(job: Any, *, status: str) -> list[str]:
    return [child["model"] for child in job["children"] if child["status"] == status]


# --- agreeing and not


def test_with_one_lying_model_the_vote_is_right_and_the_dissent_is_recorded(mill: Mill) -> None:
    job = mill.submit("one", "liar", "two", payload={"truth": [1, 2]}, min_agreement=0.6, metadata={"order": "7"})
    assert (job["status"], job["model"], job["available_at"], job["consensus"]["decision"]) == ("queued", "consensus", None, None)
    assert models_of(job, status="queued") == ["one", "liar", "two"]
    assert [(each.queue.pool, each.model) for each in mill.api.published] == [("debug", "one"), ("debug", "liar"), ("debug", "two")]

    mill.run_children(job)
    done = mill.join(job)

    assert (done["status"], done["output"], done["metadata"]) == ("succeeded", {"payload": {"truth": [1, 2]}}, {"order": "7"})
    consensus = done["consensus"]
    assert (consensus["decision"], consensus["model"], consensus["method"]) == ("agreed", "two", "exact_json"), "of two alike, the better model's"
    assert consensus["agreement"] == pytest.approx(2 / 3)
    assert consensus["dissents"] == [{"model": "liar", "output": {"payload": "a lie"}, "agreement": 0.0}]
    assert consensus["matrix"] == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    assert done["usage"] == {"input_tokens": 0, "output_tokens": 0, "cost_usd": "0.007"}, "what its children cost"
    assert mill.api.get(f"/v1/jobs/{done['id']}/attempts").json["data"][0]["model"] == "consensus"
    assert_promises(look(mill.engine, id_of(job)))
    child = mill.look(done["children"][1])
    assert (child["output"], child["parent_id"], child["children"]) == ({"payload": "a lie"}, done["id"], None)


@pytest.mark.parametrize(
    ("models", "rule", "status", "decision", "model", "code"),
    [
        (("one", "two"), {"min_agreement": 1.0}, "succeeded", "agreed", "two", None),
        (("one", "liar"), {}, "failed", "no_agreement", None, "no_agreement"),
        (("one", "liar", "two"), {}, "failed", "no_agreement", None, "no_agreement"),
        (("one", "liar", "two"), {"on_disagreement": "best"}, "succeeded", "best", "liar", None),
    ],
)
def test_agreement_below_the_bar_ends_as_was_asked_for(
    mill: Mill, models: tuple[str, ...], rule: dict[str, Any], status: str, decision: str, model: str | None, code: str | None
) -> None:
    done = mill.answered(*models, **rule)

    assert (done["status"], done["consensus"]["decision"], done["consensus"]["model"]) == (status, decision, model)
    assert (done["error"] and done["error"]["code"], done["output"] is None) == (code, code is not None)
    dissenters = {dissent["model"] for dissent in done["consensus"]["dissents"]}
    assert dissenters == ({*models} if code else {*models} - {model} if decision == "best" else set())


def test_feedback_says_which_models_are_the_best_at_the_submit_and_at_the_join(mill: Mill) -> None:
    def n_best(n: int) -> list[str]:
        board.look()
        mill.api.flags.facts.update({name: board.facts(name) for name in MODELS})
        job = mill.api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, "consensus": {"n": n}}).json
        return [child["model"] for child in job["children"]]

    board = FactsBoard(mill.engine, catalogue(), qualities=Qualities(mill.engine, catalogue(), every_s=0.0))
    assert n_best(2) == ["liar", "two"]
    score(mill.engine, "liar", mill.api.principal.tenant_id, scores=20)
    assert n_best(3) == ["two", "one", "liar"]
    done = mill.answered("one", "liar", "two", payload={"truth": 1}, on_disagreement="best")
    assert (done["status"], done["consensus"]["model"], done["output"]) == ("succeeded", "two", {"payload": {"truth": 1}})


def test_no_model_is_asked_for_what_it_does_not_take(mill: Mill) -> None:
    def asked(**consensus: Any) -> Any:
        return mill.api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1, "fail_attempts": 1}, "consensus": consensus}).json

    assert [child["model"] for child in asked(n=2)["children"]] == ["two", "one"], "and not the best, which lacks it"
    refused = [asked(models=["one", "liar"]), asked(n=4)]
    assert [[(error["pointer"], error["code"], error["message"]) for error in answer["errors"]] for answer in refused] == [
        [("/input/fail_attempts", "unsupported_by_model", "is not taken by liar")],
        [("/consensus/n", "out_of_range", "debug.echo has 3 installed models that take this")],
    ]


def test_models_that_fail_are_named_and_the_others_are_joined(mill: Mill) -> None:
    job = mill.submit("one", "liar", "two")
    mill.worker.run("one", id_of(job["children"][0]))
    mill.worker.run("two", id_of(job["children"][2]))
    assert mill.api.post(f"/v1/jobs/{job['children'][1]['id']}/cancel").status_code == 200

    done = mill.join(job)

    assert (done["status"], done["consensus"]["agreement"]) == ("succeeded", 1.0)
    (failure,) = done["consensus"]["failures"]
    assert (failure["model"], failure["status"], failure["error"]["code"]) == ("liar", "canceled", "canceled_by_user")


@pytest.mark.parametrize(("answers", "code", "agreement"), [(0, "no_answer", None), (1, "no_agreement", None)])
def test_fewer_than_two_answers_are_no_agreement(mill: Mill, answers: int, code: str, agreement: float | None) -> None:
    job = mill.submit("one", "two")
    for child in job["children"][answers:]:
        mill.api.post(f"/v1/jobs/{child['id']}/cancel")
    mill.run_children(job)

    done = mill.join(job)

    assert (done["status"], done["error"]["code"], done["consensus"]["agreement"]) == ("failed", code, agreement)
    assert len(done["consensus"]["failures"]) == 2 - answers


# --- what may break


def test_a_child_killed_midway_runs_again_and_its_parent_ends(mill: Mill) -> None:
    job = mill.submit("one", "two")
    first, second = (id_of(child) for child in job["children"])
    claim(mill.engine, first, model="one", owner="dead:1")
    mill.worker.run("two", second)
    lapse_lease(mill.engine, first)
    Reaper(mill.engine, grace_s=5.0, every_s=1.0, dice=lambda: 0.0).run_once()
    run_sql(mill.engine, "UPDATE jobs SET available_at = now() WHERE id = :id", id=first)
    assert mill.join(job)["status"] == "queued", "it is not due yet"

    mill.worker.run("one", first, solo=True)

    assert mill.join(job)["status"] == "succeeded"
    assert [attempt.outcome for attempt in look(mill.engine, first).attempts] == ["lost", "succeeded"]


@pytest.mark.parametrize("delay_s", [0, 590])
def test_a_child_whose_pool_does_not_run_expires_in_time_for_the_join(mill: Mill, delay_s: int) -> None:
    start = (datetime.now(UTC) + timedelta(seconds=delay_s)).isoformat()
    job = mill.submit("one", "liar", "two", min_agreement=0.6, deadline_s=600, not_before=start)
    (times,) = run_sql(
        mill.engine,
        "SELECT bool_and(available_at < deadline_at) AS runs, CAST(extract(epoch FROM max(deadline_at) - min(created_at)) AS float8) AS deadline_s"
        " FROM jobs WHERE parent_id = :id",
        id=id_of(job),
    )
    assert (times.runs, times.deadline_s) == (True, pytest.approx(599 if delay_s else 540, abs=0.2))
    run_sql(mill.engine, "UPDATE jobs SET available_at = now() WHERE parent_id = :id", id=id_of(job))
    mill.worker.run("one", id_of(job["children"][0]))
    mill.worker.run("two", id_of(job["children"][2]))

    run_sql(mill.engine, "UPDATE jobs SET deadline_at = now() - interval '1 second' WHERE id = :id", id=id_of(job["children"][1]))
    Reaper(mill.engine, grace_s=5.0, every_s=1.0).run_once()
    done = mill.join(job)

    assert (done["status"], [failure["status"] for failure in done["consensus"]["failures"]]) == ("succeeded", ["expired"])


def test_a_family_whose_task_the_catalogue_has_no_longer_fails_alone(mill: Mill, tmp_path: Path) -> None:
    job = mill.submit("one", "two")
    mill.run_children(job)
    whole = catalogue()
    tasks = {name: task for name, task in whole.tasks.items() if name != "debug.echo"}
    models = {name: model for name, model in whole.models.items() if model.task in tasks}
    worker = InProcessWorker(tmp_path / "later", mill.worker.config.database_url, whole.model_copy(update={"tasks": tasks, "models": models}))

    worker.run("consensus", id_of(job))
    worker.close()

    done = mill.look(job)
    assert (done["status"], done["error"]["code"]) == ("failed", "invalid_input")


def test_a_join_runs_within_its_own_time_out(mill: Mill) -> None:
    job = mill.submit("one", "two", timeout_s=0.001)
    mill.run_children(job)
    (claimed,) = claim(mill.engine, id_of(job), model="consensus")

    (gathered,) = Joiner(mill.engine, catalogue(), dict).gather([claimed])

    assert (claimed.timeout_s, gathered.timeout_s) == (0.001, 60.0)


def test_a_join_that_dies_is_run_again(mill: Mill) -> None:
    job = mill.submit("one", "two")
    mill.run_children(job)
    claim(mill.engine, id_of(job), model="consensus", owner="dead:1")
    lapse_lease(mill.engine, id_of(job))
    Reaper(mill.engine, grace_s=5.0, every_s=1.0, dice=lambda: 0.0).run_once()
    run_sql(mill.engine, "UPDATE jobs SET available_at = now() WHERE id = :id", id=id_of(job))

    mill.worker.run("consensus", id_of(job), solo=True)

    assert mill.look(job)["status"] == "succeeded"
    assert_promises(look(mill.engine, id_of(job)))


def test_cancel_of_the_parent_cancels_its_children_at_once(mill: Mill) -> None:
    job = mill.submit("one", "liar", "two")
    mill.worker.run("one", id_of(job["children"][0]))
    claim(mill.engine, id_of(job["children"][1]), model="liar")

    canceled = mill.api.post(f"/v1/jobs/{job['id']}/cancel").json

    assert (canceled["status"], [child["status"] for child in canceled["children"]]) == ("canceled", ["succeeded", "canceled", "canceled"])
    assert canceled["usage"]["cost_usd"] == "0.001"
    assert mill.join(job)["status"] == "canceled"


def test_children_of_a_parent_that_has_expired_are_canceled_by_maintenance(mill: Mill) -> None:
    job = mill.submit("one", "two", deadline_s=60)
    run_sql(mill.engine, "UPDATE jobs SET deadline_at = now() - interval '1 second' WHERE id = :id", id=id_of(job))
    Reaper(mill.engine, grace_s=5.0, every_s=1.0).run_once()
    duty = OrphanCanceler(mill.engine, every_s=1.0)

    assert (duty.run_once().jobs, duty.run_once().jobs) == (2, 0)
    assert [child["status"] for child in mill.look(job)["children"]] == ["canceled", "canceled"]


def test_families_and_their_cancels_at_once_leave_nobody_waiting(mill: Mill) -> None:
    """Children end in two threads while a third cancels parents: no deadlock, and every family ends whole."""
    jobs = [mill.submit("one", "two") for _ in range(12)]
    sides = [[claim(mill.engine, id_of(job["children"][side]), model=("one", "two")[side])[0] for job in jobs] for side in (0, 1)]
    errors: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - the test's thread says what went wrong
            errors.append(error)

    acts: list[Callable[[], object]] = [
        lambda: [succeed(mill.engine, sides[0][place : place + 4]) for place in range(0, 12, 4)],
        lambda: [succeed(mill.engine, sides[1][::-1][place : place + 4]) for place in range(0, 12, 4)],
        lambda: [mill.api.post(f"/v1/jobs/{job['id']}/cancel") for job in jobs[::3]],
    ]
    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    for job in jobs:
        mill.join(job)

    assert errors == []
    assert {mill.look(job)["status"] for job in jobs[::3]} <= {"canceled", "succeeded"}
    assert {mill.look(job)["status"] for place, job in enumerate(jobs) if place % 3} == {"succeeded"}
    assert run_sql(mill.engine, "SELECT id FROM jobs WHERE finished_at IS NULL") == []


# --- reviews


def in_review(mill: Mill) -> Any:
    job = mill.answered("one", "liar", on_disagreement="review", payload="the truth")
    assert (job["status"], job["available_at"], job["consensus"]["decision"]) == ("queued", None, "review")
    assert job["review"]["resolved_at"] is None
    return job


def test_review_lists_what_models_answered_until_it_is_resolved(mill: Mill) -> None:
    job, other = in_review(mill), in_review(mill)

    listed = mill.api.get("/v1/reviews?limit=1").json
    review = mill.api.get(f"/v1/reviews/{job['id']}").json

    assert [each["job_id"] for each in listed["data"]] == [other["id"]]
    assert [each["job_id"] for each in mill.api.get(f"/v1/reviews?cursor={listed['next_cursor']}").json["data"]] == [job["id"]]
    assert (review["input"]["payload"], review["agreement"]) == ("the truth", 0.5)
    assert {answer["model"]: answer["output"]["payload"] for answer in review["answers"]} == {"one": "the truth", "liar": "a lie"}
    assert mill.api.as_tenant("another").get(f"/v1/reviews/{job['id']}").status_code == 404
    assert mill.api.as_tenant("another").get("/v1/reviews").json["data"] == []
    mill.api.post(f"/v1/jobs/{other['id']}/cancel")
    assert [each["job_id"] for each in mill.api.get("/v1/reviews").json["data"]] == [job["id"]]


def test_a_page_of_reviews_is_bounded_by_their_bytes(mill: Mill) -> None:
    jobs = [id_of(in_review(mill)) for _ in range(3)]
    tenant_id = mill.api.principal.tenant_id

    def page(**bounds: Any) -> tuple[list[UUID], bool]:
        with statement(mill.engine) as connection:
            views, more = open_reviews(connection, tenant_id=tenant_id, **{"limit": 3, **bounds})
        return [view.job_id for view in views], more

    assert page() == (jobs[::-1], False)
    assert page(page_bytes=1) == ([jobs[2]], True), "one alone may have more"
    assert page(page_bytes=1, before=jobs[1]) == ([jobs[0]], False)


@pytest.mark.parametrize(
    ("said", "status", "decision", "payload", "dissenters"),
    [
        ({"accept": "one"}, "succeeded", "accepted", "the truth", {"liar"}),
        ({"output": {"payload": "the whole truth"}}, "succeeded", "replaced", "the whole truth", {"one", "liar"}),
        ({"reject": "neither is right"}, "failed", "rejected", None, {"one", "liar"}),
    ],
)
def test_review_that_is_resolved_ends_its_job(mill: Mill, said: dict[str, Any], status: str, decision: str, payload: str | None, dissenters: set[str]) -> None:
    job = in_review(mill)
    mill.api.published.clear()

    resolved = mill.resolve(job, **said)

    assert resolved.status_code == 200, resolved.text
    assert resolved.json["resolved_by"].startswith("key_")
    assert [(each.queue.pool, each.id) for each in mill.api.published] == [("join", id_of(job))]
    done = mill.join(job)
    assert (done["status"], done["consensus"]["decision"]) == (status, decision)
    assert (done["output"] or {}).get("payload") == payload
    assert {dissent["model"] for dissent in done["consensus"]["dissents"]} == dissenters
    assert {name: value for name, value in done["review"]["resolution"].items() if value is not None} == said
    assert (done["error"] or {}).get("code") == (None if payload else "rejected_in_review")
    assert [attempt.outcome for attempt in look(mill.engine, id_of(job)).attempts] == ["held", status]
    assert mill.resolve(job, **said).json["code"] == "already_final"
    assert_promises(look(mill.engine, id_of(job)))


@pytest.mark.parametrize(
    ("said", "code", "pointer"),
    [
        ({}, "conflicting_fields", ""),
        ({"accept": "one", "reject": "x"}, "conflicting_fields", "/reject"),
        ({"accept": "two"}, "unknown_model", "/accept"),
        ({"output": {"payload": 1, "more": 2}}, "unknown_field", "/output/more"),
        ({"output": {}}, "required", "/output/payload"),
    ],
)
def test_review_refuses_what_the_job_could_not_end_with(mill: Mill, said: dict[str, Any], code: str, pointer: str) -> None:
    answer = mill.resolve(in_review(mill), **said)
    assert (answer.status_code, answer.json["code"], answer.json["errors"][0]["pointer"]) == (422, code, pointer)


def test_review_that_nobody_resolves_expires_with_its_job(mill: Mill) -> None:
    job = in_review(mill)
    run_sql(mill.engine, "UPDATE jobs SET deadline_at = now() - interval '1 second' WHERE id = :id", id=id_of(job))
    assert mill.resolve(job, accept="one").status_code == 409
    Reaper(mill.engine, grace_s=5.0, every_s=1.0).run_once()

    assert mill.look(job)["status"] == "expired"
    assert mill.api.get("/v1/reviews").json["data"] == []


# --- requests


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"consensus": {"models": ["one"]}}, "too_few", "/consensus/models"),
        ({"consensus": {"models": ["one", "three"]}}, "unknown_model", "/consensus/models/1"),
        ({"consensus": {"models": ["one", "one"]}}, "invalid_value", "/consensus/models/1"),
        ({"consensus": {"n": 5}}, "out_of_range", "/consensus/n"),
        ({"consensus": {"n": 1}}, "out_of_range", "/consensus/n"),
        ({"consensus": {"n": 2, "models": ["one", "two"]}}, "conflicting_fields", "/consensus"),
        ({"consensus": {}}, "conflicting_fields", "/consensus"),
        ({"consensus": {"n": 2, "min_agreement": 1.5}}, "out_of_range", "/consensus/min_agreement"),
        ({"consensus": {"n": 2}, "model": "one"}, "conflicting_fields", "/model"),
        ({"consensus": {"n": 2}, "route": {"policy": "best"}}, "conflicting_fields", "/route"),
        ({"task": "audio.speech", "input": {"text": "hello"}, "consensus": {"models": ["speaker", "speaker"]}}, "not_comparable", "/consensus"),
        ({"task": "consensus.join"}, "unknown_task", "/task"),
    ],
)
def test_consensus_that_cannot_be_is_refused(mill: Mill, fields: dict[str, Any], code: str, pointer: str) -> None:
    answer = mill.api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, **fields})
    found = {(error["pointer"], error["code"]) for error in answer.json["errors"]}
    assert (answer.status_code, (pointer, code) in found) == (422, True), answer.text


def test_consensus_of_n_asks_the_best_installed_models(mill: Mill) -> None:
    mill.api.flags.missing_models.add("two")
    answer = mill.api.post("/v1/jobs", {"task": "debug.echo", "input": {"payload": 1}, "consensus": {"n": 2}})
    assert answer.json["consensus"]["models"] == ["liar", "one"]


def test_the_same_key_gives_the_same_family(mill: Mill) -> None:
    body = {"task": "debug.echo", "input": {"payload": 1}, "consensus": {"n": 2}}
    first, second = (mill.api.post("/v1/jobs", body, Idempotency_Key="k") for _ in range(2))

    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.json["id"] == second.json["id"]
    assert run_sql(mill.engine, "SELECT count(*) AS n FROM jobs")[0].n == 3


def test_etag_changes_with_a_child(mill: Mill) -> None:
    job = mill.submit("one", "two")
    tag = mill.api.get(f"/v1/jobs/{job['id']}").headers["ETag"]
    assert mill.api.get(f"/v1/jobs/{job['id']}", If_None_Match=tag).status_code == 304
    claim(mill.engine, id_of(job["children"][0]), model="one")
    assert mill.api.get(f"/v1/jobs/{job['id']}", If_None_Match=tag).status_code == 200


def test_rerun_asks_the_same_models_again_or_others(mill: Mill) -> None:
    job = mill.answered("one", "two")
    path = f"/v1/jobs/{job['id']}/rerun"

    assert mill.api.post(path).json["consensus"]["models"] == ["one", "two"]
    assert mill.api.post(path, {"consensus": {"models": ["liar", "two"]}}).json["consensus"]["models"] == ["liar", "two"]
    pinned = mill.api.post(path, {"model": "liar"}).json
    assert (pinned["model"], pinned["consensus"], pinned["children"]) == ("liar", None, None)


def test_batch_counts_parents_alone_and_ends_with_them(mill: Mill) -> None:
    wanted = {"task": "debug.echo", "input": {"payload": 1}, "consensus": {"models": ["one", "two"]}}
    batch = mill.api.post("/v1/batches", {"jobs": [{**wanted, "custom_id": "a"}, {"task": "debug.echo", "input": {"payload": 2}, "model": "one"}]}).json
    assert batch["total"] == 2
    parents = [row.id for row in run_sql(mill.engine, "SELECT id FROM jobs WHERE pending_children IS NOT NULL")]
    children = run_sql(mill.engine, "SELECT id, model FROM jobs WHERE parent_id IS NOT NULL")
    assert sorted(each.model for each in mill.api.published) == ["one", "one", "two"]

    for child in children:
        mill.worker.run(child.model, child.id)
    mill.worker.run("consensus", *parents)
    unwanted = mill.api.post("/v1/batches", {"jobs": [wanted, wanted]}).json
    mill.api.post(f"/v1/batches/{unwanted['id']}/cancel")
    assert run_sql(mill.engine, "SELECT count(*) AS n FROM jobs WHERE parent_id IS NOT NULL AND status = 'canceled'")[0].n == 4

    assert mill.api.get(f"/v1/batches/{batch['id']}").json["counts"] == {
        **dict.fromkeys(("running", "failed", "canceled", "expired"), 0),
        "queued": 1,
        "succeeded": 1,
    }
    assert [job["custom_id"] for job in mill.api.get("/v1/jobs").json["data"]] == [None, None, None, "a"]
