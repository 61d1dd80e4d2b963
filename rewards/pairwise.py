"""Pairwise designs of other papers as rewards for clips that are judged one by one: CP-LLM's rank term, Bradley-Terry
with ties. They compare an answer's score with the mean score of every other labelled clip of the batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from .parsing import check_columns, check_mos, group_indices, scores_of


def product_hinge(difference: float, mos_difference: float) -> float:
    """CP-LLM's rank term for one pair, Eq. 1: max(0, -(q1 - q2)(p1 - p2)), a loss.

    Args:
        difference: p1 - p2 of the predicted scores.
        mos_difference: q1 - q2 of the labels.

    Returns:
        0 where the order is right or one difference is 0; else the product of both differences' sizes.
    """
    return max(0.0, -mos_difference * difference)


def tie_likelihood(difference: float, outcome: int, k: float = 5.0) -> float:
    """Probability of an outcome by Bradley-Terry with ties (Rao and Kupper; VideoAlign's reward model, k = 5).

    The log of it, with its sign turned, is VideoAlign's loss: -log sigmoid(d - log k) for the better one of a pair;
    both signs of d, minus log(k^2 - 1), for a tie.

    Args:
        difference: d, score of the one minus score of the other.
        outcome: 1 if the one is better, -1 if the other is, 0 for a tie.
        k: How readily a pair counts as a tie, > 1; at 1 there are none.

    Returns:
        A probability; those of the three outcomes add up to 1.
    """

    def wins(lead: float) -> float:
        return 1 / (1 + k * math.exp(-lead))

    return wins(outcome * difference) if outcome else (k**2 - 1) * wins(difference) * wins(-difference)


class _AgainstOthers(ABC):
    """A reward for each answer's score against the mean scores of the other labelled clips of the batch."""

    compares_videos = True
    floor = 0.0

    def __init__(self, name: str) -> None:
        self.__name__ = name

    @abstractmethod
    def pair(self, difference: float, mos_difference: float) -> float:
        """Reward for one pair."""

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Sequence[float | None],
        *,
        video_id: Sequence[Hashable] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward in [0, 1] per answer, mean over all other clips of the batch with a label and a score; `None`
        where the answer has no score in [1, 5], its clip has no label, or there is no other clip.

        Args:
            completions: N texts or message lists, K of each clip in any order.
            mos: N labels, one for each clip.
            video_id: N group names.
            columns: Not needed.

        Raises:
            ValueError: If `video_id` is missing, a length differs or a label is not finite.
        """
        check_columns(completions, mos=mos, video_id=video_id)
        check_mos(mos)
        scores, groups = scores_of(completions), group_indices(() if video_id is None else video_id)
        known = {name: [score for i in group if (score := scores[i]) is not None] for name, group in groups.items()}
        means = {
            name: (float(np.mean(own)), float(label))
            for name, own in known.items()
            if own and (label := mos[groups[name][0]]) is not None
        }
        rewards: list[float | None] = [None] * len(scores)
        for name, (_, label) in means.items():
            others = [means[other] for other in means if other != name]
            for i in groups[name]:
                if others and (score := scores[i]) is not None:
                    paid = [self.pair(score - mean, label - theirs) for mean, theirs in others]
                    rewards[i] = float(np.mean(paid))
        return rewards

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a label; an answer to it without a value cannot be scored."""
        return row.get("mos") is not None


class ProductHinge(_AgainstOthers):
    """CP-LLM's rank term, Eq. 1, as a reward: 1 - L1 / span^2, at least 0.

    A missing reward adds nothing to a sum, so that -L1 itself would pay an answer without a score best of all.

    L1 has no margin: equal scores cost nothing. And it grows with the labels' difference, so that neighbouring rungs
    count least.

    Args:
        span: Width of the scale, > 0; span^2 is the largest L1.
        name: Metric key.
    """

    def __init__(self, span: float = 4.0, name: str = "product_hinge") -> None:
        if not span > 0:
            raise ValueError(f"span={span}: must be positive.")
        super().__init__(name)
        self.span = span

    def pair(self, difference: float, mos_difference: float) -> float:
        """1 where the order is right."""
        return max(0.0, 1 - product_hinge(difference, mos_difference) / self.span**2)


class BradleyTerry(_AgainstOthers):
    """Bradley-Terry with ties (VideoAlign) as a reward: the probability of what the labels say, see `tie_likelihood`.

    Its logarithm is their loss with the sign turned. The probability orders answers alike and is at least 0, as what
    cannot be scored adds nothing.

    Args:
        k: See `tie_likelihood` (VideoAlign: 5).
        tie: Two MOS that differ by at most so much are a tie, >= 0.
        name: Metric key.
    """

    def __init__(self, k: float = 5.0, tie: float = 0.0, name: str = "bradley_terry") -> None:
        if not k > 1:
            raise ValueError(f"k={k}: must be above 1, as at 1 there are no ties.")
        if not tie >= 0:
            raise ValueError(f"tie={tie}: must be at least 0, in score units.")
        super().__init__(name)
        self.k, self.tie = k, tie

    def pair(self, difference: float, mos_difference: float) -> float:
        """Probability of the labels' outcome."""
        outcome = 0 if abs(mos_difference) <= self.tie else int(np.sign(mos_difference))
        return tie_likelihood(difference, outcome, self.k)
