"""Two policies on the same questions: what changed?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from vqathinker.metrics.correlation import bootstrap_interval


@dataclass(frozen=True)
class PairedDifference:
    """The accuracies of two policies on the same questions. NaN where undefined.

    Attributes:
        difference: Of the second minus the first.
        low: Low end of its 95 % percentile bootstrap interval.
        high: High end.
        gained: Questions that only the second answers rightly.
        lost: Questions that only the first does.
        p_value: Of McNemar's exact test, two-sided: of questions that one of both answers rightly, each has as many.
    """

    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p_value: float


def paired_difference(
    right_a: Sequence[bool],
    right_b: Sequence[bool],
    seed: int = 0,
    resamples: int = 1000,
    sources: Sequence[Hashable] | None = None,
) -> PairedDifference:
    """What changed from a policy A (before) to a policy B (after) on the same N questions.

    Args:
        right_a: N times, whether A is right.
        right_b: N times, whether B is.
        seed: Of the resamples.
        resamples: How many.
        sources: N names of what each question is about (its clip); the interval then draws whole sources, see
            `correlation.bootstrap_interval`. The p-value takes questions as independent.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(right_a) != len(right_b):
        raise ValueError(
            f"right_a has {len(right_a)} entries, right_b {len(right_b)}: need the same questions in both."
        )
    before, after = (np.array(right, dtype=bool) for right in (right_a, right_b))
    gained, lost = int(np.sum(after & ~before)), int(np.sum(before & ~after))
    if not len(before):
        return PairedDifference(math.nan, math.nan, math.nan, 0, 0, math.nan)

    def change(b: np.ndarray, a: np.ndarray) -> float:
        return float(np.mean(a - b))

    low, high = bootstrap_interval(change, before, after, seed, resamples, sources)
    p_value = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return PairedDifference((gained - lost) / len(before), low, high, gained, lost, p_value)
