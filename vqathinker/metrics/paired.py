"""Two policies on the same questions or clips: what changed?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from vqathinker.metrics.correlation import Metric, Numbers, bootstrap_interval


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


@dataclass(frozen=True)
class CorrelationDifference:
    """The correlations of two policies' scores with the labels of the same clips. NaN where undefined.

    Attributes:
        before: Of the first policy, in [-1, 1].
        after: Of the second.
        difference: Of the second minus the first, in [-2, 2].
        low: Low end of its 95 % percentile bootstrap interval.
        high: High end.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float


def correlation_difference(
    metric: Metric,
    before: Numbers,
    after: Numbers,
    mos: Numbers,
    seed: int = 0,
    resamples: int = 1000,
    sources: Sequence[Hashable] | None = None,
) -> CorrelationDifference:
    """What changed from one policy to another on the same N clips, by a paired bootstrap.

    Each resample draws clips, or whole sources, once for both policies: what makes a resample easy or hard then cancels
    in the difference, and its interval is narrower than the two policies' own intervals suggest.

    Args:
        metric: `srcc`, `plcc` or `krcc`.
        before: N scores of the first policy.
        after: N scores of the second.
        mos: N labels.
        seed: Of the resamples.
        resamples: How many.
        sources: N names of what each clip was made from, see `correlation.bootstrap_interval`.

    Raises:
        ValueError: If the lengths differ.
    """
    first, second, labels = (np.asarray(values, dtype=float) for values in (before, after, mos))
    if not first.shape == second.shape == labels.shape or labels.ndim != 1:
        raise ValueError(
            f"before has shape {first.shape}, after {second.shape}, mos {labels.shape}: need one score per policy and "
            "label."
        )

    def change(drawn: np.ndarray, _: np.ndarray) -> float:
        clips = drawn.astype(int)
        return metric(second[clips], labels[clips]) - metric(first[clips], labels[clips])

    places = np.arange(len(labels))
    low, high = bootstrap_interval(change, places, places, seed, resamples, sources)
    old, new = metric(first, labels), metric(second, labels)
    return CorrelationDifference(old, new, new - old, low, high)
