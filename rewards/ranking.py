"""Thurstone fidelity ranking reward (VQAThinker Eq. 6, VisualQuality-R1)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from .parsing import check_columns, check_mos, check_rule, group_indices, scores_of

EPS = 1e-6


def normal_cdf(values: np.ndarray) -> np.ndarray:
    """Phi, the standard normal distribution function, of each value."""
    flat = [0.5 * math.erfc(-value / math.sqrt(2)) for value in np.ravel(values)]
    return np.reshape(flat, np.shape(values))


def _target(mos_i: float, mos_j: np.ndarray, tie: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of p and 1-p in the fidelity for each opponent: (1, 0) above, (0, 1) below, (tie, tie) at equal MOS."""
    above, below, equal = mos_i > mos_j, mos_i < mos_j, mos_i == mos_j
    return above + tie * equal, below + tie * equal


def fidelity_ranking(
    scores: Sequence[float | None],
    mos: Sequence[float | None],
    video_id: Sequence[Hashable],
    tie: float = 0.5,
    eps: float = EPS,
    opponent_scores: Sequence[float | None] | None = None,
) -> list[float | None]:
    """Fidelity between predicted and labelled order, averaged over all other videos of the batch.

    For response k of video i against video j: p = Phi((s_k^i - mean(s_j)) / sqrt(var(s_i) + var(s_j) + eps)), and the
    reward is sqrt(p t + eps) + sqrt((1 - p) u + eps) with (t, u) = (1, 0) if g_i > g_j, (0, 1) if g_i < g_j and
    (tie, tie) if they are equal. Variances are unbiased, over the scorable responses of a video.

    Args:
        scores: N predicted scores, `None` where unscorable.
        mos: N labels, `None` where unlabelled; all responses of a video share one.
        video_id: N group names; order and position do not matter.
        tie: 0.5 (published code) or 0.0 (paper's formula, where a tie pays only 2 sqrt(eps)).
        eps: Stabiliser in the denominator and in both roots.
        opponent_scores: N scores that stand for the *other* videos (mean and variance), when `scores` are those of
            perturbed copies that are to be compared with the originals. Default: `scores` themselves.

    Returns:
        N rewards in [0, about 1.002], or `None` where the response is unscorable, its video has fewer than two scorable
        responses (no variance) or no other video has two.

    Source: VQAThinker Eq. 6; averaging, ties and eps as in the published code.
    """
    groups = group_indices(video_id)

    def statistics(values: Sequence[float | None]) -> dict[Hashable, tuple[float, float, float]]:
        """video -> (mean, unbiased variance, MOS), for labelled videos with at least two scorable responses."""
        found = {}
        for name, members in groups.items():
            known = [value for i in members if (value := values[i]) is not None]
            label = mos[members[0]]
            if len(known) >= 2 and label is not None:
                found[name] = (float(np.mean(known)), float(np.var(known, ddof=1)), float(label))
        return found

    own = statistics(scores)
    opponents = own if opponent_scores is None else statistics(opponent_scores)
    names = list(opponents)
    table = np.array([opponents[name] for name in names]).reshape(-1, 3)
    rewards: list[float | None] = [None] * len(scores)
    for name, (_, variance, label) in own.items():
        mean_j, var_j, mos_j = table[[other != name for other in names]].T
        if not len(mean_j):
            continue
        weight_p, weight_q = _target(label, mos_j, tie)
        members = [i for i in groups[name] if scores[i] is not None]
        own_scores = np.array([scores[i] for i in members])[:, None]  # (K, 1) against (J,) opponents
        p = normal_cdf((own_scores - mean_j) / np.sqrt(variance + var_j + eps))
        fidelity = np.sqrt(p * weight_p + eps) + np.sqrt((1 - p) * weight_q + eps)
        for i, value in zip(members, fidelity.mean(axis=1), strict=True):
            rewards[i] = float(value)
    return rewards


def check_groups(
    completions: Sequence[Any], mos: Sequence[Any], video_id: Sequence[Hashable] | None
) -> Sequence[Hashable]:
    """The video ids, once it is sure that the batch can be ranked: at least two videos, one with two completions."""
    check_columns(completions, mos=mos, video_id=video_id)
    check_mos(mos)
    ids = () if video_id is None else video_id
    labels: dict[Hashable, Any] = {}
    for name, label in zip(ids, mos, strict=True):
        if labels.setdefault(name, label) != label:
            raise ValueError(
                f"video_id {name!r} has two labels, {labels[name]} and {label}: a video has one MOS. Correct one of "
                "them."
            )
    if len(labels) < 2:
        raise ValueError(
            f"the batch holds {len(labels)} video ({list(labels)}): a ranking reward compares at least two videos. "
            "Raise the batch size, or use a reward that looks at one sample at a time."
        )
    if len(completions) == len(labels):
        raise ValueError(
            f"each of the {len(labels)} videos has one completion: the ranking reward needs the spread of at least two "
            "completions per video_id (K >= 2)."
        )
    return ids


class Ranking:
    """Fidelity ranking reward as a TRL / ms-swift reward function.

    It ranks what it is given: stock trainers hand over one process's slice, `VQAGRPOTrainer` the global batch.

    Args:
        tie: See `fidelity_ranking`.
        eps: See `fidelity_ranking`.
        allow_out_of_range: Rank answers outside [1, 5] too (published code).
        name: Metric key.
        rule: How a number is found in an answer, `"recommended"` or `"official"`, see `parse_answer`.

    Raises:
        ValueError: If `tie` or `rule` is unknown, or `eps` is not positive.
    """

    compares_videos = True
    floor = 0.0

    def __init__(
        self,
        tie: float = 0.5,
        eps: float = EPS,
        allow_out_of_range: bool = False,
        name: str = "rank",
        rule: str = "recommended",
    ) -> None:
        if tie not in (0.0, 0.5):
            raise ValueError(f"tie={tie}: must be 0.5 (published code) or 0.0 (paper's formula).")
        if not eps > 0:
            raise ValueError(f"eps={eps}: must be positive.")
        check_rule(rule)
        self.tie, self.eps, self.allow_out_of_range, self.rule = tie, eps, allow_out_of_range, rule
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Sequence[float | None],
        *,
        video_id: Sequence[Hashable] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward per completion, `None` where it cannot be ranked.

        Args:
            completions: N texts or message lists, K of each video in any order.
            mos: N labels.
            video_id: N group names.

        Raises:
            ValueError: If `video_id` is missing, lengths differ, a video has two labels, or there is nothing to rank
                (one video, or one completion per video).
        """
        ids = check_groups(completions, mos, video_id)
        scores = scores_of(completions, self.allow_out_of_range, self.rule)
        return fidelity_ranking(scores, mos, ids, self.tie, self.eps)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a label; an answer to it without a value cannot be scored."""
        return row.get("mos") is not None
