"""How well a policy says which faults a clip has: each fault by itself, named in the reasoning or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vqathinker.rewards.distortion import DEGREES, degree


@dataclass(frozen=True)
class FaultAttribution:
    """How well one fault is told from its absence. NaN where undefined.

    Attributes:
        clips: Clips that have it, by their labels.
        named: Clips whose reasoning names it.
        precision: Of the latter the share that has it.
        recall: Of the former the share that is named.
        f1: 2 TP / (2 TP + FP + FN).
        balanced_accuracy: Mean of the recall and of the share of clips without it of which it is not named: 0.5 for
            a policy that always names it, or never.
        degree: Of those rightly named, the share whose degree word is within one of five levels of the label's, see
            `rewards.distortion.degree`; one named without a degree is not.
    """

    clips: int
    named: int
    precision: float
    recall: float
    f1: float
    balanced_accuracy: float
    degree: float


SHARES = ("precision", "recall", "f1", "balanced_accuracy", "degree")
"""Fields of `FaultAttribution` that a mean is taken of, in their order."""


@dataclass(frozen=True)
class Attribution:
    """How well the faults of a set's clips are named.

    Attributes:
        faults: Name -> numbers; of the faults that some clip has or is said to have.
        mean: Means over the faults that some clip has; `clips` and `named` are sums.
        exact: Share of clips of which exactly the right faults are named.
        num_clips: Of how many clips.
    """

    faults: dict[str, FaultAttribution]
    mean: FaultAttribution
    exact: float
    num_clips: int


def attribute(named: Sequence[Mapping[str, str | None]], truths: Sequence[Mapping[str, float]]) -> Attribution:
    """Faults named against faults labelled.

    Args:
        named: For each of N clips fault -> degree word or `None`, see `rewards.distortion.named_distortions`.
        truths: For each fault -> severity in [0, 1]; empty for a clip without faults. "_" and a space are the same.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(named) != len(truths):
        raise ValueError(f"named has {len(named)} entries, truths {len(truths)}: need one of each per clip.")
    said = [{_spelt(kind): word for kind, word in own.items()} for own in named]
    true = [{_spelt(kind): severity for kind, severity in own.items()} for own in truths]
    known = {kind for own in said for kind in own} | {kind for own in true for kind in own}
    faults = {kind: _fault(kind, said, true) for kind in sorted(known)}
    present = [own for own in faults.values() if own.clips]
    return Attribution(
        faults=faults,
        mean=FaultAttribution(
            sum(own.clips for own in faults.values()),
            sum(own.named for own in faults.values()),
            *(_mean([getattr(own, name) for own in present]) for name in SHARES),
        ),
        exact=_mean([own.keys() == right.keys() for own, right in zip(said, true, strict=True)]),
        num_clips=len(said),
    )


def _fault(
    kind: str, said: Sequence[Mapping[str, str | None]], true: Sequence[Mapping[str, float]]
) -> FaultAttribution:
    """Numbers of one fault; a precision where it is never named is undefined, F1 is 0 then."""
    hit = np.array([kind in own for own in said], dtype=bool)
    has = np.array([kind in own for own in true], dtype=bool)
    tp, fp, fn, tn = (int(np.sum(part)) for part in (hit & has, hit & ~has, ~hit & has, ~hit & ~has))
    near = [
        word is not None and abs(DEGREES.index(word) - DEGREES.index(degree(right[kind]))) <= 1
        for own, right in zip(said, true, strict=True)
        if kind in own and kind in right
        for word in [own[kind]]
    ]
    return FaultAttribution(
        clips=tp + fn,
        named=tp + fp,
        precision=_ratio(tp, tp + fp),
        recall=_ratio(tp, tp + fn),
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        balanced_accuracy=(_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2,
        degree=_mean(near),
    )


def _spelt(kind: str) -> str:
    return kind.replace("_", " ")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Sequence[float]) -> float:
    """Of the values that are defined."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
