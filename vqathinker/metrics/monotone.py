"""A strictly rising curve from scores to labels, which few labels can carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

from vqathinker.metrics.correlation import Numbers, checked

CENTRES = (5, 20, 35, 50, 65, 80, 95)
"""Where the logistics have their middle: percentiles of the scores."""
WIDTH = 0.5
"""Of the logistics, in standard deviations of the scores."""
LEAST_SLOPE = 0.01
"""In standard deviations of the labels per standard deviation of the scores: no two scores get the same value."""


@dataclass(frozen=True)
class MonotoneCurve:
    """offset + slope s + sum of weights / (1 + exp(-(s - centres) / width)), with slope >= 0 and weights >= 0.

    Attributes:
        offset: Label units.
        slope: Label units per score unit; 0 only where all labels of the fit were equal.
        width: Of every logistic, score units.
        centres: Score units.
        weights: Label units, one for each centre.
    """

    offset: float
    slope: float
    width: float
    centres: tuple[float, ...]
    weights: tuple[float, ...]

    def __call__(self, scores: Numbers | float) -> Any:
        """Scores (...,) to values (...,) in label units; NaN stays NaN."""
        s = np.asarray(scores, float)
        rises = special.expit((s[..., None] - np.array(self.centres)) / self.width)
        return self.offset + self.slope * s + rises @ np.array(self.weights)


def fit_monotone(scores: Numbers, labels: Numbers) -> MonotoneCurve:
    """Least squares among the curves of `MonotoneCurve` whose logistics stand at `CENTRES`.

    The logistic is the shape that VQEG maps scores to MOS with. Places and width are fixed beforehand, so that what
    remains is a non-negative least squares problem: one solution, no start, nothing that fails to converge. That the
    weights cannot be negative keeps the curve as smooth as 50 labels ask for (as monotone splines, Ramsay 1988).

    Args:
        scores: N >= 1.
        labels: N labels, any units; the order of the pairs does not matter.

    Raises:
        ValueError: If the lengths differ.

    Equal labels give a flat curve: they have no deviation that a least slope could be measured in.
    """
    s, y = checked(scores, labels)
    order = np.lexsort((y, s))  # sums in another order differ in their last bits
    s, y = s[order], y[order]
    mean, deviation = s.mean(), _deviation(s) or 1.0
    z = (s - mean) / deviation
    places, least = np.percentile(z, CENTRES), LEAST_SLOPE * _deviation(y)
    columns = np.column_stack([z, special.expit((z[:, None] - places) / WIDTH)])
    middle = columns.mean(0)
    rest = y - least * z
    found, _ = optimize.nnls(columns - middle, rest - rest.mean())
    slope = (found[0] + least) / deviation
    return MonotoneCurve(
        offset=float(rest.mean() - found @ middle - slope * mean),
        slope=float(slope),
        width=float(WIDTH * deviation),
        centres=tuple((mean + deviation * places).tolist()),
        weights=tuple(found[1:].tolist()),
    )


def _deviation(values: np.ndarray) -> float:
    """Standard deviation; 0 of equal values, where that of numpy may be 4e-16."""
    return float(values.std()) if np.ptp(values) else 0.0
