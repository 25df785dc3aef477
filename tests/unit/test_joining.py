"""The rule that joins answers: whose stands, and when none does."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.agreement.comparator import Matrix, pairwise
from domain.agreement.joining import Decision, OnDisagreement, join


def votes(*labels: str) -> Matrix:
    return pairwise(labels, lambda left, right: float(left == right))


@pytest.mark.parametrize(
    ("labels", "qualities", "bar", "decision", "agreement", "chosen"),
    [
        ("aa", (None, None), 1.0, Decision.AGREED, 1.0, 0),
        ("aab", (None, None, 0.9), 0.6, Decision.AGREED, 2 / 3, 0),
        ("baa", (0.9, 0.1, 0.2), 2 / 3, Decision.AGREED, 2 / 3, 2),
        ("aab", (None, None, None), 0.8, Decision.NO_AGREEMENT, 2 / 3, None),
        ("ab", (0.1, 0.9), 0.5, Decision.AGREED, 0.5, 1),
        ("a", (1.0,), 0.0, Decision.NO_AGREEMENT, None, None),
    ],
)
def test_join_takes_the_answer_that_most_stand_behind(
    labels: str, qualities: tuple[float | None, ...], bar: float, decision: Decision, agreement: float | None, chosen: int | None
) -> None:
    joined = join(votes(*labels), qualities, min_agreement=bar, on_disagreement=OnDisagreement.FAIL)
    assert (joined.decision, joined.chosen) == (decision, chosen)
    assert joined.agreement == (None if agreement is None else pytest.approx(agreement))


@pytest.mark.parametrize(
    ("on_disagreement", "decision", "chosen"),
    [(OnDisagreement.FAIL, Decision.NO_AGREEMENT, None), (OnDisagreement.REVIEW, Decision.REVIEW, None), (OnDisagreement.BEST, Decision.BEST, 2)],
)
def test_join_below_the_bar_does_what_was_asked_for(on_disagreement: OnDisagreement, decision: Decision, chosen: int | None) -> None:
    joined = join(votes("a", "a", "b"), (0.6, None, 0.7), min_agreement=0.9, on_disagreement=on_disagreement)
    assert (joined.decision, joined.chosen, joined.leader) == (decision, chosen, 0)


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=8), st.floats(0, 1), st.randoms(use_true_random=False))
def test_join_finds_the_same_label_in_whatever_order_answers_come(labels: list[str], bar: float, dice: random.Random) -> None:
    qualities = {label: place / 10 for place, label in enumerate("abc")}
    shuffled = list(labels)
    dice.shuffle(shuffled)
    joins = [join(votes(*each), [qualities[label] for label in each], min_agreement=bar, on_disagreement=OnDisagreement.BEST) for each in (labels, shuffled)]
    assert joins[0].decision is joins[1].decision
    assert joins[0].agreement == pytest.approx(joins[1].agreement)
    assert labels[joins[0].leader] == shuffled[joins[1].leader]
    assert joins[0].chosen is not None
    assert joins[1].chosen is not None
    assert labels[joins[0].chosen] == shuffled[joins[1].chosen]
    assert joins[0].agreement == pytest.approx(labels.count(labels[joins[0].leader]) / len(labels)), "for labels it is the share of the votes"
