"""How good a model is taken to be: the catalogue's figure gives way to what tenants say, and no tenant says it alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.quality import MOST_OF_A_TENANT, PRIOR_SCORES, blended

priors = st.none() | st.floats(0, 1)
scores = st.lists(st.integers(1, 10_000).flatmap(lambda count: st.tuples(st.just(count), st.floats(0, count))), max_size=5)


@given(prior=priors, given_scores=scores)
def test_quality_stays_a_quality_and_moves_towards_what_is_said(prior: float | None, given_scores: list[tuple[int, float]]) -> None:
    before = blended(prior, given_scores)
    assert 0 <= before <= 1 + 1e-12
    assert blended(prior, [*given_scores, (10, 10.0)]) >= before - 1e-12
    assert blended(prior, [*given_scores, (10, 0.0)]) <= before + 1e-12


@pytest.mark.parametrize(
    ("prior", "given_scores", "expected"),
    [
        (0.9, [], 0.9),
        (None, [], 0.5),
        (0.9, [(10, 0.0)], 0.6),
        (0.9, [(PRIOR_SCORES, PRIOR_SCORES * 0.5)], 0.7),
        (0.5, [(1_000_000, 0.0)], 0.5 * PRIOR_SCORES / (PRIOR_SCORES + MOST_OF_A_TENANT)),
    ],
    ids=["nothing said", "nothing known", "ten zeros", "as many scores as the prior counts for", "one tenant says it a million times"],
)
def test_quality_is_the_mean_with_the_prior(prior: float | None, given_scores: list[tuple[int, float]], expected: float) -> None:
    assert blended(prior, given_scores) == pytest.approx(expected)
