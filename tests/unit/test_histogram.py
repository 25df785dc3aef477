"""Counted durations: what is read off is near what was measured, whoever counted it."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.histogram import BUCKETS, bucket_of, quantile_ms

durations = st.lists(st.floats(min_value=0.11, max_value=1_200_000), min_size=1, max_size=50)


@given(one=durations, other=durations, share=st.sampled_from([0.5, 0.95, 1.0]))
def test_quantile_of_added_counts_is_within_a_twentieth_of_the_true_one(one: list[float], other: list[float], share: float) -> None:
    counts = Counter(map(bucket_of, one)) + Counter(map(bucket_of, other))
    together = sorted(one + other)
    true = together[math.ceil(share * len(together)) - 1]
    assert quantile_ms(counts, share) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize(("duration_ms", "bucket"), [(-1.0, 0), (0.0, 0), (0.1, 0), (1e12, BUCKETS - 1)])
def test_bucket_of_what_cannot_be_counts_at_the_edge(duration_ms: float, bucket: int) -> None:
    assert bucket_of(duration_ms) == bucket


def test_quantile_of_nothing_is_none() -> None:
    assert quantile_ms({}, 0.5) is None
