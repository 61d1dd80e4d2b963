"""Does the reasoning say what is wrong with a clip? Faults named in it against labelled ones, without a judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vqathinker.data import LabelRow, distortions_of
from vqathinker.evaluation.report import Table
from vqathinker.metrics.attribution import Attribution, FaultAttribution, attribute
from vqathinker.rewards.distortion import KINDS, named_distortions

NOTE = (
    "Faults that the reasoning of the first answer names (what it denies it does not name) against the label columns "
    "kind and severity; an empty kind is a clip without faults. clips: those that have the fault; named: those of "
    "which it is said. balanced accuracy: 0.5 for a fault that is always named, or never. degree: share of those "
    "rightly named whose degree word is within one of five levels. Mean: over the faults that some clip has."
)


def attribution_of(rows: Sequence[LabelRow], scored: Sequence[Mapping[str, Any]]) -> Attribution | None:
    """How well the reasoning to labelled clips names their faults.

    Args:
        rows: Labels of N clips.
        scored: A row of `score_files` for each.

    Returns:
        Over the clips with an answer; `None` where no label has a kind, or nothing was answered, as by the read-outs
        `levels` and `head`. A clip whose answer has no reasoning counts as one of which nothing is named.
    """
    known = [(s, distortions_of(row)) for s, row in zip(scored, rows, strict=True) if s.get("num_answers")]
    if not any(truth for _, truth in known):
        return None
    kinds = sorted({kind.replace("_", " ") for kind in [*KINDS, *(kind for _, truth in known for kind in truth)]})
    return attribute([named_distortions(s["reasoning"], kinds) for s, _ in known], [truth for _, truth in known])


def attribution_table(title: str, found: Attribution) -> Table:
    """A line per fault, and one for the means.

    Args:
        title: Of the set.
        found: Its attribution.
    """
    columns = ["fault", "clips", "named", "precision", "recall", "F1", "balanced accuracy", "degree"]
    lines = [[name, *_cells(own)] for name, own in found.faults.items()]
    exact = (
        "" if math.isnan(found.exact) else f" Exactly the right faults: {found.exact:.3f} of {found.num_clips} clips."
    )
    return Table(f"Faults named: {title}", columns, [*lines, ["mean", *_cells(found.mean)]], NOTE + exact)


def _cells(own: FaultAttribution) -> list[float]:
    return [own.clips, own.named, own.precision, own.recall, own.f1, own.balanced_accuracy, own.degree]
