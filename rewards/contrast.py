"""Contrast reward: the answers to a perturbed copy are paid for ranking it below its original."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from .parsing import check_columns, group_indices, scores_of
from .ranking import normal_cdf

EPS = 0.01
"""Square of a tenth of a score: smaller leads over the copy pay in proportion."""


def contrast_fidelity(original: Sequence[float], perturbed: Sequence[float], eps: float = EPS) -> list[float]:
    """Fidelity of "the original is better" for each answer to the copy (Thurstone, as VQAThinker Eq. 6 ranks videos).

    With the scores q of the original and q' of the copy, an answer s' of the copy earns
    sqrt(Phi((mean(q) - s') / sqrt(var(q) + var(q') + eps))).

    Args:
        original: Scores of the original's answers, at least two.
        perturbed: Scores of the copy's answers, at least two.
        eps: Stabiliser > 0, in squared score units.

    Returns:
        One reward in [0, 1] per entry of `perturbed`.
    """
    spread = np.sqrt(np.var(original, ddof=1) + np.var(perturbed, ddof=1) + eps)
    return np.sqrt(normal_cdf((np.mean(original) - np.asarray(perturbed)) / spread)).tolist()


class Contrast:
    """Contrast reward. It makes `VQAGRPOTrainer` train on the answers to the perturbed copies too.

    The temporal reward (VQAThinker Eq. 8-9) compares with the copies' answers, but pays those to the originals only:
    nothing teaches the policy to rate a copy lower. Here a copy is a video of its own, without a label, of which one
    thing is known: it should rank below its original. The rewards that need no label (format) pay its answers as well.

    Args:
        eps: See `contrast_fidelity`.
        name: Metric key.

    Raises:
        ValueError: If `eps` is not positive.
    """

    needs_perturbed = True
    trains_copies = True
    floor = 0.0

    def __init__(self, eps: float = EPS, name: str = "contrast") -> None:
        if not eps > 0:
            raise ValueError(f"eps={eps}: must be positive.")
        self.eps = eps
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        video_id: Sequence[Hashable] | None = None,
        copy_of: Sequence[Hashable | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward in [0, 1] per answer to a copy; `None` for all others.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            video_id: N group names; a copy has one of its own.
            copy_of: N names: of the original where the row belongs to a copy, else `None`. Without this column there
                are no copies.
            columns: Not needed.

        Returns:
            N values; `None` also where an answer has no score in [1, 5], or copy or original have fewer than two.

        Raises:
            ValueError: If `video_id` is missing, or a column has another length.
        """
        if copy_of is None:
            return [None] * len(completions)
        check_columns(completions, video_id=video_id, copy_of=copy_of)
        scores, groups = scores_of(completions), group_indices(video_id or ())
        rewards: list[float | None] = [None] * len(scores)
        for members in groups.values():
            original = groups.get(copy_of[members[0]], ())
            known = [score for i in original if (score := scores[i]) is not None]
            own = {i: score for i in members if (score := scores[i]) is not None}
            if len(known) >= 2 and len(own) >= 2:
                for i, value in zip(own, contrast_fidelity(known, list(own.values()), self.eps), strict=True):
                    rewards[i] = value
        return rewards

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row belongs to a copy; an answer to it without a value cannot be scored."""
        return row.get("copy_of") is not None
