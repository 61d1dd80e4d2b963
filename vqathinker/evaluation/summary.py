"""What a set of predictions is worth, in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vqathinker.data import LabelRow, distortions_of
from vqathinker.metrics.correlation import plcc, srcc
from vqathinker.rewards.distortion import KINDS, named_distortions
from vqathinker.scoring.predict import Prediction, mean_score


@dataclass(frozen=True)
class Summary:
    """Correlations of one set of predictions with MOS. NaN where undefined.

    Attributes:
        srcc: Spearman correlation of the greedy answers.
        plcc: Pearson correlation of the greedy answers.
        srcc_sample: Of one sampled answer per clip; the mean over the samples.
        srcc_mean4: Of the mean of up to four sampled answers per clip.
        parse_rate: Share of sampled answers (of the greedy ones if nothing was sampled) that give a number in 0-5.
        spread: Standard deviation of the greedy scores over that of MOS; near 0 where a policy has collapsed.
        common_score: Largest share of clips that got one and the same greedy score.
        naming: Of the clips with one labelled distortion, the share whose greedy reasoning names it and no other.
        num_clips: Clips asked for.
        num_unreadable: Of these, not readable.
    """

    srcc: float
    plcc: float
    srcc_sample: float
    srcc_mean4: float
    parse_rate: float
    spread: float
    common_score: float
    naming: float
    num_clips: int
    num_unreadable: int


def summarize(predictions: Sequence[Prediction], rows: Sequence[LabelRow]) -> Summary:
    """Correlations with the labels; clips without a parsable answer are left out of them and show in `parse_rate`.

    Args:
        predictions: From `predict`, in the order of `rows`.
        rows: Their labels.
    """
    greedy = [p.scores[0] if p.greedy and p.answers else math.nan for p in predictions]
    sampled = [p.scores[int(p.greedy) :] for p in predictions]
    counted = [s for scores in sampled for s in scores] or [s for p in predictions for s in p.scores]
    mos = [row.mos for row in rows]
    scored = [(s, g) for s, g in zip(greedy, mos, strict=True) if not math.isnan(s)]
    return Summary(
        srcc=_pairwise(srcc, greedy, mos),
        plcc=_pairwise(plcc, greedy, mos),
        srcc_sample=_mean_over_samples(sampled, mos),
        srcc_mean4=_pairwise(srcc, [mean_score(a[:4]) for a in sampled], mos),
        parse_rate=float(1 - np.isnan(counted).mean()) if counted else math.nan,
        spread=_spread(scored),
        common_score=max(Counter(s for s, _ in scored).values()) / len(scored) if scored else math.nan,
        naming=naming_accuracy(predictions, rows),
        num_clips=len(predictions),
        num_unreadable=sum(p.error is not None for p in predictions),
    )


def naming_accuracy(predictions: Sequence[Prediction], rows: Sequence[LabelRow]) -> float:
    """Share of the clips with one labelled distortion whose first answer names it and no other; NaN without labels.

    Args:
        predictions: From `predict`, in the order of `rows`.
        rows: Labels; `kind` and `severity` columns say what is wrong, see `rewards.Distortion`.
    """
    truths = [distortions_of(row) for row in rows]
    kinds = {kind.replace("_", " ") for kind in [*KINDS, *(kind for truth in truths for kind in truth)]}
    right = []
    for prediction, truth in zip(predictions, truths, strict=True):
        if len(truth) == 1 and prediction.answers:
            named = set(named_distortions(prediction.answers[0], sorted(kinds)))
            right.append(named == {kind.replace("_", " ") for kind in truth})
    return float(np.mean(right)) if right else math.nan


def _mean_over_samples(sampled: Sequence[Sequence[float]], mos: Sequence[float]) -> float:
    drawn = max(map(len, sampled), default=0)
    columns = [[scores[i] if i < len(scores) else math.nan for scores in sampled] for i in range(drawn)]
    known = [value for column in columns if not math.isnan(value := _pairwise(srcc, column, mos))]
    return float(np.mean(known)) if known else math.nan


def _spread(scored: Sequence[tuple[float, float]]) -> float:
    scores, mos = np.array(scored).reshape(-1, 2).T
    return float(scores.std() / mos.std()) if len(mos) and mos.std() else math.nan


def _pairwise(
    measure: Callable[[list[float], list[float]], float], scores: Sequence[float], mos: Sequence[float]
) -> float:
    pairs = [(s, g) for s, g in zip(scores, mos, strict=True) if not math.isnan(s)]
    return measure([s for s, _ in pairs], [g for _, g in pairs])
