"""Correlation between predicted scores and MOS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats


def srcc(scores: Sequence[float], mos: Sequence[float]) -> float:
    """Spearman rank correlation in [-1, 1]; NaN where undefined (fewer than 2 clips, or one side constant).

    Args:
        scores: N predicted scores.
        mos: N labels.

    Raises:
        ValueError: If the lengths differ.
    """
    return _correlation(stats.spearmanr, scores, mos)


def plcc(scores: Sequence[float], mos: Sequence[float]) -> float:
    """Pearson linear correlation, raw as in the paper. Args, result and errors as `srcc`."""
    return _correlation(stats.pearsonr, scores, mos)


def _correlation(measure: Callable, scores: Sequence[float], mos: Sequence[float]) -> float:
    scores, mos = np.asarray(scores, dtype=float), np.asarray(mos, dtype=float)
    if scores.shape != mos.shape or scores.ndim != 1:
        raise ValueError(f"scores has shape {scores.shape}, mos {mos.shape}: need one score per label.")
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(mos) == 0:
        return float("nan")
    return float(measure(scores, mos).statistic)
