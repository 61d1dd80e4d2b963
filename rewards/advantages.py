"""Group-relative advantages (VQAThinker Eq. 2) and the groups that teach nothing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from .parsing import group_indices

EPS = 1e-4
"""Added to the standard deviation (published code, TRL)."""


def advantages(rewards: Sequence[float | None], video_id: Sequence[Hashable], eps: float = EPS) -> list[float]:
    """a_k = (r_k - mean) / (std + eps) over the responses of each video, with the unbiased standard deviation.

    Args:
        rewards: N total rewards; `None` or NaN = unscorable, left out of mean and std and given advantage 0.
        video_id: N group names; a group is all entries with the same name, wherever they stand.
        eps: Stabiliser.

    Returns:
        N advantages. A group with fewer than two scorable rewards gets zeros.

    Raises:
        ValueError: If the lengths differ.

    Example:
        >>> [round(a, 3) for a in advantages([1.0, 2.0, 0.5, 0.5], ["a", "a", "b", "b"])]
        [-0.707, 0.707, 0.0, 0.0]
    """
    if len(rewards) != len(video_id):
        raise ValueError(f"{len(rewards)} rewards for {len(video_id)} video ids: give one id per reward.")
    values = np.array([np.nan if r is None else r for r in rewards], dtype=float)
    result = np.zeros(len(values))
    for index in map(np.array, group_indices(video_id).values()):
        known = index[~np.isnan(values[index])]
        if len(known) >= 2:
            group = values[known]
            result[known] = (group - group.mean()) / (group.std(ddof=1) + eps)
    return result.tolist()


def zero_gradient_groups(rewards: Sequence[float | None], video_id: Sequence[Hashable]) -> list[Hashable]:
    """Names of the videos whose scorable rewards are all equal, so that every advantage is 0.

    Args:
        rewards: N total rewards.
        video_id: N group names.
    """
    values = np.array([np.nan if r is None else r for r in rewards], dtype=float)
    flat = []
    for name, index in group_indices(video_id).items():
        known = values[index][~np.isnan(values[index])]
        if len(known) < 2 or np.ptp(known) < 1e-8:
            flat.append(name)
    return flat
