"""Advantages of originals and of perturbed copies that are trained on too."""

from __future__ import annotations

import torch
from trl.trainer.utils import nanstd

EPSILON = 1e-4
"""What TRL adds to a standard deviation."""


def own_scale(
    rewards: torch.Tensor, weights: torch.Tensor, copies: torch.Tensor, num_generations: int, aggregation: str
) -> torch.Tensor:
    """What turns advantages over the standard deviation of a whole batch into advantages over that of their own kind.

    Originals and copies are paid by different rewards. Most of the deviation of both together is then the distance
    between their means, and all advantages of a batch that has copies would be about half of what they are without.

    Args:
        rewards: (R, F) rewards of the whole batch, NaN where there is none.
        weights: (F,) weights.
        copies: (R,) bool, answers to perturbed copies.
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
    for kind in (copies, ~copies):
        ratio = (nanstd(totals) + EPSILON) / (nanstd(totals[kind]) + EPSILON)
        factors[kind] = ratio.nan_to_num(1.0)
    return factors
