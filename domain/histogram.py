"""Durations counted in buckets of equal ratio, so that what different processes counted can be added up and a quantile still be read off.

An octave has eight buckets, from 0.1 ms to 28 minutes (no attempt may run longer): a quantile is off by at most 4.5 % of itself.
"""

import math
from collections.abc import Mapping

LOWEST_MS = 0.1
PER_OCTAVE = 8
BUCKETS = 24 * PER_OCTAVE


def bucket_of(duration_ms: float) -> int:
    """The bucket of a duration, 0 to ``BUCKETS - 1``; what lies outside counts in the first or the last."""
    if duration_ms <= LOWEST_MS:
        return 0
    return min(BUCKETS - 1, int(PER_OCTAVE * math.log2(duration_ms / LOWEST_MS)))


def quantile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """The duration that ``share`` (above 0, 1 at most) of all were not longer than, as the middle of its bucket; None where nothing was counted."""
    rank, counted = share * sum(counts.values()), 0
    for bucket in sorted(counts):
        counted += counts[bucket]
        if counted >= rank > 0:
            return float(f"{LOWEST_MS * 2 ** ((bucket + 0.5) / PER_OCTAVE):.3g}")
    return None
