"""Prediction intervals with a guarantee for finite samples, whatever the distribution (conformal prediction)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from vqathinker.metrics.correlation import Numbers, checked, clips_by_source

Curve = TypeVar("Curve", bound=Callable[[np.ndarray], np.ndarray])


def min_units(risk: float) -> int:
    """Exchangeable units (clips, sources, scenes) that a risk needs: ceil(1 / risk) - 1.

    Raises:
        ValueError: If the risk is not in (0, 1).
    """
    if not 0 < risk < 1:
        raise ValueError(f"risk {risk}: must be above 0 and below 1, e.g. 0.1.")
    return math.ceil(round(1 / risk, 9)) - 1


def conformal_quantile(values: Numbers, risk: float, units: Sequence[Hashable] | None = None) -> float:
    """The least of N values that a new one exceeds with probability <= risk, if its unit is exchangeable with these.

    With one value per unit it is the k-th smallest of n, k = ceil((n + 1) (1 - risk)) (Vovk et al. 2005). Several
    values of a unit share its weight of 1 / (n + 1) (Lee, Barber and Willett 2024, arXiv 2306.06342, HCP).

    Args:
        values: N, e.g. errors on clips that were left out of a fit.
        risk: In (0, 1).
        units: What each value belongs to; default a unit of its own.

    Returns:
        One of the values; infinity where there are fewer than `min_units` units.
    """
    values = np.asarray(values, float)
    places = clips_by_source(range(len(values)) if units is None else units, len(values))
    share = np.empty(len(values))
    for own in places:
        share[own] = 1 / len(own)
    order = np.argsort(values, kind="stable")
    reached = np.flatnonzero(np.cumsum(share[order]) >= (len(places) + 1) * (1 - risk) - 1e-9)
    return float(values[order[reached[0]]]) if len(reached) else math.inf


@dataclass(frozen=True)
class LeftOut(Generic[Curve]):
    """Curves each fitted without one unit, and how far they miss that unit's labels.

    Attributes:
        curves: One per unit.
        errors: (N,) absolute error on each clip of the curve that was fitted without its unit, label units.
        units: (N,) what each clip belongs to.
    """

    curves: tuple[Curve, ...]
    errors: np.ndarray
    units: tuple[Hashable, ...]

    def margin(self, risk: float) -> float:
        """What `interval` is widened by for a risk; label units, infinite where there are too few units."""
        return conformal_quantile(self.errors, risk, self.units)


def leave_out(
    fit: Callable[[np.ndarray, np.ndarray], Curve], scores: Numbers, labels: Numbers, units: Sequence[Hashable]
) -> LeftOut[Curve]:
    """Fit once without each unit.

    Args:
        fit: Takes scores and labels; its result may not depend on their order.
        scores: N.
        labels: N.
        units: What each clip belongs to, at least two different ones.

    Raises:
        ValueError: If the lengths differ.
    """
    scores, labels = checked(scores, labels)
    curves, errors = list[Curve](), np.empty(len(scores))
    for own in clips_by_source(units, len(scores)):
        kept = np.ones(len(scores), bool)
        kept[own] = False
        curves.append(fit(scores[kept], labels[kept]))
        errors[own] = np.abs(labels[own] - curves[-1](scores[own]))
    return LeftOut(tuple(curves), errors, tuple(units))


def interval(
    curves: Sequence[Callable[[np.ndarray], np.ndarray]], margin: float, scores: Numbers
) -> tuple[np.ndarray, np.ndarray]:
    """Jackknife-minmax: from the lowest of the curves less a margin to the highest plus it, (M,) and (M,).

    A label of a new unit, exchangeable with those of the curves, lies within with probability >= 1 - risk (Barber,
    Candes, Ramdas and Tibshirani 2021, Theorem 3; jackknife+ is a little narrower and proves 1 - 2 risk only). With
    several clips per unit the proof is the same with the quantile of Lee et al. Ends rise with the score as curves do.

    Args:
        curves: Of `leave_out`.
        margin: Of `LeftOut.margin`.
        scores: M.
    """
    values = np.array([curve(np.asarray(scores, float)) for curve in curves])
    return values.min(0) - margin, values.max(0) + margin
