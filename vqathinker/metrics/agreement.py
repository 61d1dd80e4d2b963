"""How well raters agree: the ceiling of what a model can reach on their MOS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vqathinker.metrics.correlation import plcc, srcc

MIN_CLIPS = 3
HALVES = 200


@dataclass(frozen=True)
class Agreement:
    """How well raters agree. NaN where it cannot be told: fewer than 2 raters, or 3 clips.

    Attributes:
        raters: Number of raters.
        clips: Number of clips.
        srcc: Of each rater, (raters,): Spearman correlation with the mean of the others, over the clips that both have.
        plcc: The same with Pearson's.
        reliability: Of the MOS, in [0, 1]: the correlation that it would have with the MOS of as many other raters.
        ceiling: Its square root: the correlation of a perfect predictor with this MOS.
    """

    raters: int
    clips: int
    srcc: tuple[float, ...]
    plcc: tuple[float, ...]
    reliability: float
    ceiling: float

    def text(self) -> str:
        """One line in words."""
        count = f"{self.raters} rater{'s' * (self.raters != 1)}"
        if math.isnan(self.reliability):
            return f"{count}, {self.clips} clips: how well raters agree is unknown"
        ranks = [value for value in self.srcc if not math.isnan(value)]
        spread = f"{np.mean(ranks):.2f} ({min(ranks):.2f} to {max(ranks):.2f})" if ranks else "not known"
        return (
            f"{count}; one rater against the mean of the others: SRCC {spread}; MOS reliability "
            f"{self.reliability:.2f}, so a perfect predictor would reach about {self.ceiling:.2f}"
        )


def agreement(matrix: np.ndarray, seed: int = 0) -> Agreement:
    """How well raters agree on a set of clips.

    The reliability r_k is the split-half one: raters are cut into two halves of m at random, the two MOS are
    correlated (Pearson), and the mean r over `HALVES` cuts is brought to all k raters (Spearman 1910, Brown 1910): with
    n = k / m, r_k = n r / (1 + (n - 1) r). The ceiling sqrt(r_k) is Spearman's (1904) correction for attenuation.

    What it does not say: errors that raters share (of the display, the instructions) count as quality; the ceiling
    holds for clips that differ as much as these, and a model may pass it by chance on few clips. For ranks it is only
    about right. Where ratings are missing, halves of a clip are uneven, which makes the reliability somewhat low.

    Args:
        matrix: Ratings, (clips, raters), on one scale; NaN where there is none.
        seed: Of the halves.

    Raises:
        ValueError: If it has not two dimensions.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2:
        raise ValueError(f"ratings of shape {matrix.shape} must have the two dimensions (clips, raters).")
    clips, raters = matrix.shape
    pairs = [_with_the_others(matrix, rater) for rater in range(raters)]
    reliability = _reliability(matrix, seed) if raters > 1 else math.nan
    return Agreement(
        raters,
        clips,
        tuple(srcc(*pair) if len(pair[0]) >= MIN_CLIPS else math.nan for pair in pairs),
        tuple(plcc(*pair) if len(pair[0]) >= MIN_CLIPS else math.nan for pair in pairs),
        reliability,
        math.sqrt(reliability),
    )


def _with_the_others(matrix: np.ndarray, rater: int) -> tuple[np.ndarray, np.ndarray]:
    """A rater's ratings and the means of the others', of the clips that both have."""
    own, others = matrix[:, rater], np.delete(matrix, rater, axis=1)
    both = ~np.isnan(own) & ~np.isnan(others).all(axis=1)
    return own[both], np.nanmean(others[both], axis=1) if both.any() else own[both]


def _reliability(matrix: np.ndarray, seed: int) -> float:
    """Split-half, by Spearman and Brown; of an odd number of raters, each cut leaves one out."""
    raters = matrix.shape[1]
    half = raters // 2
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(HALVES):
        order = rng.permutation(raters)
        one, other = _means(matrix, order[:half]), _means(matrix, order[half : 2 * half])
        both = ~np.isnan(one) & ~np.isnan(other)
        if both.sum() >= MIN_CLIPS:
            found.append(plcc(one[both], other[both]))
    known = [value for value in found if not math.isnan(value)]
    if not known:
        return math.nan
    r, n = max(0.0, float(np.mean(known))), raters / half
    return n * r / (1 + (n - 1) * r)


def _means(matrix: np.ndarray, raters: Sequence[int] | np.ndarray) -> np.ndarray:
    """Mean of these raters' ratings of each clip; NaN without one."""
    ratings = matrix[:, raters]
    counts = (~np.isnan(ratings)).sum(axis=1)
    return np.where(counts > 0, np.nansum(ratings, axis=1) / np.maximum(counts, 1), np.nan)
