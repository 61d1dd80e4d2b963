"""Advantages of answers that are paid by different rewards: of several tasks, of originals and perturbed copies."""

from __future__ import annotations

import torch
from trl.trainer.utils import nanstd

EPSILON = 1e-4
"""What TRL adds to a standard deviation."""


def own_scale(
    rewards: torch.Tensor, weights: torch.Tensor, kinds: torch.Tensor, num_generations: int, aggregation: str
) -> torch.Tensor:
    """What turns advantages over the standard deviation of a whole batch into advantages over that of their own kind.

    Tasks are paid by different rewards, and so are originals and copies. Most of the deviation of all together is then
    the distance between their means, and all advantages of a batch that has copies would be about half of what they are
    without.

    Args:
        rewards: (R, F) rewards of the whole batch, NaN where there is none.
        weights: (F,) weights.
        kinds: (R,) int64, which answers are of one kind: of one task, and to originals or to perturbed copies.
        num_generations: K, answers per clip.
        aggregation: TRL's `multi_objective_aggregation`.

    Returns:
        (R,) factors; 1 where a kind has fewer than two rewards.
    """
    values = rewards
    if aggregation == "normalize_then_sum":
        groups = rewards.unflatten(0, (-1, num_generations))
        scaled = (groups - groups.nanmean(1, keepdim=True)) / (nanstd(groups, dim=1, keepdim=True) + EPSILON)
        values = scaled.flatten(0, 1)
    totals = (values * weights).nansum(1).where(~rewards.isnan().all(1), torch.nan)
    factors = torch.ones_like(totals)
    for kind in kinds.unique():
        ratio = (nanstd(totals) + EPSILON) / (nanstd(totals[kinds == kind]) + EPSILON)
        factors[kinds == kind] = ratio.nan_to_num(1.0)
    return factors
