"""How well open questions are answered: mean F1 of key terms, and what answers that see nothing reach."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from vqathinker.metrics.correlation import bootstrap_interval
from vqathinker.rewards import key_terms


@dataclass(frozen=True)
class Mean:
    """A mean and its 95 % interval of a bootstrap that draws whole clips; NaN without values, or of one clip.

    Attributes:
        value: The mean.
        low: Low end.
        high: High end.
        count: Number of values.
    """

    value: float
    low: float
    high: float
    count: int


def mean_over_clips(values: Sequence[float], clips: Sequence[Hashable], seed: int = 0) -> Mean:
    """The mean of the values that are known.

    Args:
        values: N numbers, NaN where one is not known.
        clips: N names of what each is about.
        seed: Of the bootstrap.
    """
    known = [(value, clip) for value, clip in zip(values, clips, strict=True) if not math.isnan(value)]
    if not known:
        return Mean(math.nan, math.nan, math.nan, 0)
    numbers, sources = [value for value, _ in known], [clip for _, clip in known]

    def mean(drawn: np.ndarray, _: np.ndarray) -> float:
        return float(np.mean(drawn))

    return Mean(float(np.mean(numbers)), *bootstrap_interval(mean, numbers, numbers, seed, sources=sources), len(known))


def blind_f1(references: Sequence[str]) -> tuple[float, float]:
    """What two ways to answer without looking reach, as mean F1 of key terms.

    Args:
        references: N right answers; those without key terms are left out.

    Returns:
        The best constant answer among the references, which knows them all; and the reference of another question,
        drawn at random (its expectation; NaN of fewer than two). NaN where there is none.
    """
    terms = [own for reference in references if (own := key_terms(reference))]
    if not terms:
        return math.nan, math.nan
    column = {term: place for place, term in enumerate(sorted(frozenset().union(*terms)))}
    has = np.zeros((len(terms), len(column)), dtype=np.float32)
    for row, own in enumerate(terms):
        has[row, [column[term] for term in own]] = 1
    sizes = has.sum(axis=1)
    f1 = 2 * (has @ has.T) / (sizes[:, None] + sizes[None, :])
    others = (f1.sum() - len(terms)) / (len(terms) * (len(terms) - 1)) if len(terms) > 1 else math.nan
    return float(f1.mean(axis=1).max()), float(others)
