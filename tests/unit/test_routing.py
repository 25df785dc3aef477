"""Routing as what it is: a pure function. Whatever the candidates and the wish, these things hold."""

import random
import sys
import tomllib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.catalogue import parse_catalogue
from domain.errors import ConfigurationError
from domain.routing.decision import Decision, OverLimit, Wish, decide, kept_model, weighted_choice
from domain.routing.estimate import estimate_usage
from domain.routing.facts import COLD, ModelFacts
from domain.routing.failover import Fault, Plan, fault_of, next_models
from domain.routing.policy import BUILT_IN, Candidate, load_policy
from domain.run_counts import failures_of_the_model
from tests.support.echoes import echo_catalogue_of

NAMES = ["a", "b", "c", "d", "e"]
SCORES = {name: load_policy(dotted) for name, dotted in BUILT_IN.items()}
rates = st.floats(0, 1)
times = st.floats(0.01, 1e6)
facts = st.builds(
    ModelFacts,
    latency_ms=st.none() | times,
    error_rate=rates,
    queued_per_worker=st.floats(0, 1e6),
    workers=st.integers(0, 3),
    breaker_open=st.booleans(),
)
prices = st.decimals(0, 10, places=6)


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[Candidate]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    default = draw(st.sampled_from(NAMES))
    return [Candidate(name, draw(prices), draw(st.none() | rates), name == default, draw(st.integers(1, 64)), draw(facts)) for name in names]


wishes = st.builds(
    Wish,
    policy=st.none() | st.sampled_from(sorted(BUILT_IN)),
    fallbacks=st.booleans() | st.lists(st.sampled_from(NAMES), unique=True).map(tuple),
    max_cost_usd=st.none() | prices,
)


def choose(candidates: list[Candidate], wish: Wish = Wish(), policy: str = "balanced", **more: Any) -> Decision:  # noqa: B008 - frozen
    return decide(candidates, wish=wish, policy=wish.policy or policy, scores=SCORES[wish.policy or policy], **more)


@settings(deadline=None)
@given(candidate_lists(), wishes, st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)), st.binary(max_size=8), st.randoms(use_true_random=False))
def test_decide_any_candidates_keeps_its_promises(candidates: list[Candidate], wish: Wish, weights: dict[str, int], key: bytes, dice: random.Random) -> None:
    affordable = {each.model for each in candidates if wish.max_cost_usd is None or each.cost_usd <= wish.max_cost_usd}
    if not affordable:
        with pytest.raises(OverLimit) as raised:
            choose(candidates, wish, weights=weights, key=key)
        assert raised.value.cheapest_usd == min(each.cost_usd for each in candidates)
        return
    decision = choose(candidates, wish, weights=weights, key=key)
    by_name = {each.model: each for each in candidates}
    named = set() if isinstance(wish.fallbacks, bool) else set(wish.fallbacks)

    assert {decision.model, *decision.fallbacks} <= affordable
    assert decision.model not in decision.fallbacks
    assert len(set(decision.fallbacks)) == len(decision.fallbacks)
    assert {each.model for each, _ in decision.candidates} | set(decision.excluded) == set(by_name)
    assert not {each.model for each, _ in decision.candidates} & set(decision.excluded)
    assert decision.reasons
    if any(not by_name[name].facts.breaker_open for name in affordable):
        assert not by_name[decision.model].facts.breaker_open
        assert all(not by_name[name].facts.breaker_open for name in set(decision.fallbacks) - named)
    if wish.fallbacks is True:
        assert {decision.model, *decision.fallbacks} == {each.model for each, _ in decision.candidates}
    else:
        assert list(decision.fallbacks) == [name for name in (wish.fallbacks or ()) if name in decision.fallbacks]

    dice.shuffle(candidates)
    assert choose(candidates, wish, weights=weights, key=key) == decision
    plan = Plan.of(orjson.loads(orjson.dumps(decision.as_dict())))
    assert (plan.order, plan.max_cost_usd) == ([decision.model, *decision.fallbacks], wish.max_cost_usd)
    assert plan.affords(decision.model)


@settings(deadline=None)
@given(candidate_lists(), wishes, st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)), st.data())
def test_decide_models_that_are_not_interchangeable_stand_in_only_where_they_are_listed(
    candidates: list[Candidate], wish: Wish, weights: dict[str, int], data: st.DataObject
) -> None:
    names = [each.model for each in candidates]
    kept = data.draw(st.sampled_from(names)) if wish.policy is None else None
    free = replace(wish, max_cost_usd=None)
    decision = choose(candidates, free, weights=weights, kept=kept, interchangeable=False)
    listed = () if isinstance(wish.fallbacks, bool) else wish.fallbacks
    assert kept is None or decision.model == kept
    assert list(decision.fallbacks) == [name for name in listed if name in names and name in decision.fallbacks]
    if kept is None:
        assert decision.model == choose(candidates, free, weights=weights).model
        return
    assert list(decision.fallbacks) == [name for name in listed if name in names and name != kept]
    price = next(each.cost_usd for each in candidates if each.model == kept)
    if wish.max_cost_usd is not None and price > wish.max_cost_usd:  # one that is cheaper gives nothing that compares
        with pytest.raises(OverLimit) as raised:
            choose(candidates, wish, kept=kept, interchangeable=False)
        assert raised.value.cheapest_usd == price


def test_kept_model_is_the_default_or_what_the_weights_give_to_a_key() -> None:
    assert {kept_model("a", weights, b"key") for weights in ({}, {"b": 0})} == {"a"}
    assert kept_model("a", {"a": 0, "b": 1}, b"key") == "b"


@settings(deadline=None)
@given(candidate_lists(), st.sampled_from(sorted(BUILT_IN)))
def test_decide_what_is_better_in_every_respect_is_never_behind(candidates: list[Candidate], policy: str) -> None:
    healthy = [replace(each, default=False, facts=replace(each.facts, breaker_open=False, workers=1)) for each in candidates]
    first = healthy[0]
    better = replace(
        first,
        model="z",
        cost_usd=first.cost_usd / 2,
        quality=1.0,
        batch_size=first.batch_size,
        facts=replace(first.facts, latency_ms=0.005, error_rate=0.0, queued_per_worker=0.0),
    )
    scores = {each.model: score.value for each, score in choose([*healthy, better], policy=policy).candidates}
    assert scores["z"] <= scores[first.model]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), prices, min_size=1), st.sampled_from(sorted(BUILT_IN)), st.data())
def test_decide_while_nothing_is_known_balanced_takes_the_default(costs: dict[str, Decimal], policy: str, data: st.DataObject) -> None:
    default = data.draw(st.sampled_from(sorted(costs)))
    candidates = [Candidate(name, cost, default=name == default) for name, cost in costs.items()]
    assert choose(candidates).model == default
    equal = [replace(each, cost_usd=Decimal(1)) for each in candidates]
    assert choose(equal, policy=policy).model == default


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("cheapest", ["cheap", "quick", "fine"]), ("fastest", ["quick", "cheap", "fine"]), ("best", ["fine", "quick", "cheap"])],
)
def test_policy_orders_by_what_it_is_named_for(policy: str, expected: list[str]) -> None:
    def known(ms: float, queued: float = 0.0) -> ModelFacts:
        return ModelFacts(latency_ms=ms, queued_per_worker=queued, workers=1)

    candidates = [
        Candidate("cheap", Decimal("0.001"), 0.2, facts=known(50.0, queued=3.0)),
        Candidate("quick", Decimal("0.1"), 0.5, facts=known(80.0)),
        Candidate("fine", Decimal(1), 0.9, facts=known(900.0), default=True),
    ]
    decision = choose(candidates, policy=policy)
    assert [decision.model, *decision.fallbacks] == expected
    assert decision.reasons[0].startswith(f"{policy}: {expected[0]}, ")


def test_fastest_tries_a_model_that_nobody_has_measured_once_others_have_something_waiting() -> None:
    known = Candidate("known", Decimal(0), default=True, facts=ModelFacts(latency_ms=10.0, workers=1))
    new = Candidate("new", Decimal(0), facts=ModelFacts(workers=1))
    assert choose([known, new], policy="fastest").model == "known"
    busy = replace(known, facts=replace(known.facts, queued_per_worker=1.0))
    assert choose([busy, new], policy="fastest").model == "new"
    assert choose([replace(new, facts=replace(new.facts, error_rate=0.9)), known], policy="fastest").model == "known"


def test_model_whose_pool_has_no_worker_comes_last() -> None:
    idle = Candidate("idle", Decimal(0), default=True, facts=COLD)
    ready = Candidate("ready", Decimal(1), facts=ModelFacts(workers=1))
    decision = choose([idle, ready], policy="cheapest")
    assert (decision.model, decision.fallbacks) == ("ready", ["idle"])
    assert any("no worker of idle is ready" in reason for reason in decision.reasons)


def test_weights_share_jobs_out_by_key_and_move_no_key_that_they_need_not() -> None:
    keys = [str(number).encode() for number in range(4_000)]
    before = {key: weighted_choice({"a": 90, "b": 9, "c": 1}, key) for key in keys}
    shares = {name: list(before.values()).count(name) / len(keys) for name in "abc"}
    assert shares == pytest.approx({"a": 0.90, "b": 0.09, "c": 0.01}, abs=0.015)
    after = {key: weighted_choice({"a": 90, "c": 1}, key) for key in keys}
    assert all(after[key] == name for key, name in before.items() if name != "b")
    more = {key: weighted_choice({"a": 90, "b": 30, "c": 1}, key) for key in keys}
    assert all(more[key] == "b" for key, name in before.items() if name != more[key])


def test_weights_hold_where_the_request_names_no_policy_and_only_for_what_can_run() -> None:
    candidates = [Candidate(name, Decimal(0), default=name == "a", facts=ModelFacts(workers=1)) for name in "ab"]
    assert choose(candidates, weights={"b": 1}).model == "b"
    assert choose(candidates, Wish(policy="cheapest"), weights={"b": 1}).model == "a"
    assert choose(candidates, Wish(model="a"), weights={"b": 1}).model == "a"
    broken = [candidates[0], replace(candidates[1], facts=ModelFacts(workers=1, breaker_open=True))]
    assert choose(broken, weights={"b": 1}).model == "a"


def test_pinned_model_falls_back_to_what_is_named_alone() -> None:
    candidates = [Candidate(name, Decimal(1), default=name == "a") for name in "abc"]
    assert choose(candidates, Wish(model="b")).fallbacks == []
    decision = choose(candidates, Wish(model="b", fallbacks=("c", "b")))
    assert (decision.policy, decision.model, decision.fallbacks) == (None, "b", ["c"])
    with pytest.raises(OverLimit):
        choose([replace(candidates[1], cost_usd=Decimal(3)), candidates[0]], Wish(model="b", fallbacks=("a",), max_cost_usd=Decimal(2)))


@pytest.mark.parametrize(
    ("job_input", "max_tokens", "expected"),
    [
        ({"text": "a" * 9}, None, (3, 3)),
        ({"texts": ["é" * 8, "abcd"], "n": 1}, None, (5, 5)),
        ({"messages": [{"role": "user", "content": "abcdefgh"}]}, 128, (3, 128)),
        ({"image": {"base64": "A" * 1_000, "content_type": "image/png"}}, None, (0, 0)),
    ],
)
def test_estimate_counts_what_is_said(job_input: dict[str, Any], max_tokens: int | None, expected: tuple[int, int]) -> None:
    usage = estimate_usage(job_input, max_tokens=max_tokens)
    assert (usage.input_tokens, usage.output_tokens) == expected


# --- the next model ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("provider_unavailable", ["c"]),
        ("provider_refused", ["c"]),
        ("run_timeout", ["c"]),
        ("invalid_output", ["c"]),
        ("unsupported_input", ["c"]),
        ("unsupported_language", ["c"]),
        ("audio_too_long", ["c"]),
        ("invalid_input", []),
        ("content_policy", []),
        ("canceled_by_user", []),
        ("output_too_large", []),
    ],
)
def test_next_models_are_those_that_have_not_failed_and_still_exist(code: str, expected: list[str]) -> None:
    plan = Plan(order=["a", "b", "gone", "c"], failed=frozenset({"a"}))
    assert next_models(plan, failed="b", code=code, rooms={name: {} for name in "abc"}) == expected


def test_what_a_model_does_not_do_is_not_held_against_it() -> None:
    refusals = {"unsupported_language": 3, "context_too_long": 2, "audio_too_long": 4, "unsupported_input": 5}
    assert {fault_of(code) for code in refusals} == {Fault.LIMIT}
    assert failures_of_the_model({**refusals, "model_error": 1}) == 1


@pytest.mark.parametrize(("code", "option"), [("context_too_long", "context_tokens"), ("audio_too_long", "max_s")])
def test_next_models_after_an_input_too_long_are_those_not_known_to_take_no_more(code: str, option: str) -> None:
    most: dict[str, dict[str, Any]] = {"a": {option: 2_048}, "b": {option: 2_048}, "c": {}, "d": {option: 8_192}}
    rooms = {name: model.room for name, model in echo_catalogue_of({name: {"options": options} for name, options in most.items()}).models.items()}
    assert next_models(Plan(order=list("abcd")), failed="a", code=code, rooms=rooms) == ["c", "d"]
    assert next_models(Plan(order=list("abcd")), failed="d", code=code, rooms=rooms) == ["c"]
    assert next_models(Plan(order=list("abcd")), failed="c", code=code, rooms=rooms) == ["a", "b", "d"]
    assert next_models(Plan(order=list("abcd")), failed="a", code="unsupported_input", rooms=rooms) == ["b", "c", "d"]


def test_plan_affords_what_is_left_of_the_money() -> None:
    plan = Plan(order=["a", "b"], estimates={"a": Decimal("0.3"), "b": Decimal("0.6")}, max_cost_usd=Decimal(1), spent_usd=Decimal("0.5"))
    assert (plan.affords("a"), plan.affords("b"), replace(plan, max_cost_usd=None).affords("b")) == (True, False, True)


# --- another policy: one file and one entry ------------------------------------------------------------------------------------


def test_policy_of_ones_own_is_one_file_and_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "house_rules.py").write_text(
        "from domain.routing.policy import Score\n\n\ndef scores(candidates):\n    return [Score(-ord(each.model[0]), 'late') for each in candidates]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    document = tomllib.loads((Path(__file__).parents[2] / "catalogue.toml").read_text())
    document["policies"] = {"alphabet": "house_rules"}
    document["tasks"]["debug.echo"]["policy"] = "alphabet"
    catalogue = parse_catalogue(document).for_production()
    scores = catalogue.scores["alphabet"]
    decision = decide([Candidate(name, Decimal(0)) for name in "abc"], wish=Wish(), policy="alphabet", scores=scores)
    assert (decision.model, decision.reasons[0]) == ("c", "alphabet: c, late")
    monkeypatch.delitem(sys.modules, "house_rules")

    for policies, problem in [
        ({"alphabet": "nowhere"}, r"policies\.alphabet: No module named 'nowhere'"),
        ({}, r"tasks\.debug\.echo\.policy: there is no policy 'alphabet'"),
    ]:
        with pytest.raises(ConfigurationError, match=problem):
            parse_catalogue({**document, "policies": policies})
    document["tasks"]["text.embedding"]["policy"] = "fastest"
    with pytest.raises(ConfigurationError, match=r"tasks\.text\.embedding\.policy: has no say where models are not interchangeable"):
        parse_catalogue(document)
    del document["tasks"]["text.embedding"]["policy"]
    document["models"]["echo"]["lacks"] = ["payload", "nothing"]
    with pytest.raises(ConfigurationError, match=r"models\.echo\.lacks: 'nothing' is no field of debug\.echo's input that may be null"):
        parse_catalogue(document)
    document["tasks"]["debug.echo"]["weights"] = {"vader": 1}
    with pytest.raises(ConfigurationError, match=r"tasks\.debug\.echo\.weights: 'vader' is no model of this task"):
        parse_catalogue(document)
