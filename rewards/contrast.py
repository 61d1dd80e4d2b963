"""Contrast reward: answers to clips of which an order is known are paid for scores in this order.

Known are that a perturbed copy is worse than its original, and the order of a ladder's rungs: encodes of one source of
which each is compressed harder than the one before.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from .parsing import check_columns, group_indices, scores_of
from .ranking import normal_cdf

EPS = 0.01
"""Square of a tenth of a score: smaller leads pay in proportion."""

Order = tuple[Hashable, bool]
"""A partner's group, and whether the clip is known to be better than it."""


def order_fidelity(scores: Sequence[float], others: Sequence[float], better: bool, eps: float = EPS) -> list[float]:
    """Fidelity of a known order for each answer to one of two clips (Thurstone, as VQAThinker Eq. 6 ranks videos).

    With the scores s' of a clip's answers and the scores q of its partner's, an answer earns
    sqrt(Phi((s' - mean(q)) / sqrt(var(q) + var(s') + eps))) if the clip is the better one, and with the sign turned
    if it is the worse one.

    Args:
        scores: Scores of the clip's answers, at least two.
        others: Scores of the partner's answers, at least two.
        better: Whether the clip is better than its partner.
        eps: Stabiliser > 0, in squared score units.

    Returns:
        One reward in [0, 1] per entry of `scores`.
    """
    spread = np.sqrt(np.var(others, ddof=1) + np.var(scores, ddof=1) + eps)
    behind = np.mean(others) - np.asarray(scores)
    return np.sqrt(normal_cdf((-behind if better else behind) / spread)).tolist()


def contrast_fidelity(original: Sequence[float], perturbed: Sequence[float], eps: float = EPS) -> list[float]:
    """Fidelity of "the original is better" for each answer to the copy, see `order_fidelity`.

    Args:
        original: Scores of the original's answers, at least two.
        perturbed: Scores of the copy's answers, at least two.
        eps: Stabiliser > 0, in squared score units.

    Returns:
        One reward in [0, 1] per entry of `perturbed`.
    """
    return order_fidelity(perturbed, original, better=False, eps=eps)


def apart(rank: float, other: float, min_difference: float = 0.0) -> bool:
    """Whether the order of two rungs counts: their ranks differ, and by at least `min_difference`."""
    gap = abs(rank - other)
    return gap > 0 and gap >= min_difference


def check_rungs(ladder: Sequence[Any], rank: Sequence[Any]) -> None:
    """Raise `ValueError` unless every row has a ladder and a finite rank, or neither (`None`)."""
    for index, (name, value) in enumerate(zip(ladder, rank, strict=True)):
        if (name is None) != (value is None):
            raise ValueError(
                f"row {index} has ladder={name!r} and rank={value!r}: a rung has both, any other row neither (None)."
            )
        if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
            raise ValueError(f"rank[{index}]={value!r}: the rank of a rung must be a finite number, e.g. its CRF.")


class Contrast:
    """Contrast reward: pays for any known order of scores within a group of copies.

    **Perturbed copies.** The temporal reward (VQAThinker Eq. 8-9) compares with the copies' answers, but pays those to
    the originals only: nothing teaches the policy to rate a copy lower. Here `VQAGRPOTrainer` trains on the answers to
    the copies too. A copy is a video of its own, without a label, of which one thing is known: it should rank below its
    original. The rewards that need no label (format) pay its answers as well.

    **Rungs of a ladder**, real encodes in the data set, have the columns `ladder` and `rank`; the higher rank is the
    worse clip. Each answer to a rung is paid for its order against every other rung of the ladder in the batch, mean
    over them. `VQAGRPOTrainer` brings rungs of one ladder into one generation batch (`compares_rungs`).

    Args:
        eps: See `order_fidelity`.
        name: Metric key.
        perturbed: Pay for perturbed copies, which the trainer then makes and trains on: a step takes about 1.6 times as
            long. Without them, no copy is made on this reward's account.
        ladders: Pay for rungs of ladders.
        min_difference: Rungs whose ranks differ by less are not compared; at 0 all different ranks are.

    Raises:
        ValueError: If `eps` is not positive, `min_difference` is negative, or nothing is paid for.
    """

    floor = 0.0

    def __init__(
        self,
        eps: float = EPS,
        name: str = "contrast",
        perturbed: bool = True,
        ladders: bool = True,
        min_difference: float = 0.0,
    ) -> None:
        if not eps > 0:
            raise ValueError(f"eps={eps}: must be positive.")
        if not (perturbed or ladders):
            raise ValueError("perturbed=False and ladders=False: nothing is left to pay for. Set one of them.")
        if not (math.isfinite(min_difference) and min_difference >= 0):
            raise ValueError(f"min_difference={min_difference}: must be at least 0, in units of the rank (CRF).")
        self.eps, self.perturbed, self.ladders, self.min_difference = eps, perturbed, ladders, min_difference
        self.needs_perturbed = self.trains_copies = perturbed
        self.compares_rungs = ladders
        self.compares_videos = not perturbed  # a copy comes with its original, a rung needs another clip
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        video_id: Sequence[Hashable] | None = None,
        copy_of: Sequence[Hashable | None] | None = None,
        ladder: Sequence[Hashable | None] | None = None,
        rank: Sequence[float | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward in [0, 1] per answer to a copy or a rung; `None` for all others.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            video_id: N group names; a copy has one of its own.
            copy_of: N names: of the original where the row belongs to a copy, else `None`. Without this column there
                are no copies.
            ladder: N names of ladders, `None` where the row is no rung. Without this column there are no rungs.
            rank: N numbers, higher is worse; `None` where the row is no rung.
            columns: Not needed.

        Returns:
            N values; `None` also where an answer has no score in [1, 5], or where the clip, or all that it can be
            compared with in the batch, have fewer than two.

        Raises:
            ValueError: If `video_id` is missing, a column has another length, or a row has a ladder without a rank or
                the reverse.
        """
        copies = copy_of if self.perturbed else None
        rungs = ladder if self.ladders else None
        rewards: list[float | None] = [None] * len(completions)
        if copies is None and rungs is None:
            return rewards
        check_columns(completions, video_id=video_id)
        groups = group_indices(() if video_id is None else video_id)
        orders: dict[Hashable, list[Order]] = {}
        if copies is not None:
            check_columns(completions, copy_of=copies)
            originals = ((name, copies[members[0]]) for name, members in groups.items())
            orders |= {name: [(original, False)] for name, original in originals if original is not None}
        if rungs is not None:
            check_columns(completions, ladder=rungs, rank=rank)
            orders |= self._orders_of_rungs(groups, rungs, () if rank is None else rank)
        scores = scores_of(completions)
        known = {name: {i: s for i in group if (s := scores[i]) is not None} for name, group in groups.items()}
        for name, partners in orders.items():
            own = known[name]
            paid = [
                order_fidelity(list(own.values()), list(known[other].values()), better, self.eps)
                for other, better in partners
                if min(len(own), len(known.get(other, ()))) >= 2
            ]
            if paid:
                for i, value in zip(own, np.mean(paid, axis=0).tolist(), strict=True):
                    rewards[i] = value
        return rewards

    def _orders_of_rungs(
        self, groups: Mapping[Hashable, Sequence[int]], ladder: Sequence[Hashable | None], rank: Sequence[float | None]
    ) -> dict[Hashable, list[Order]]:
        """What each rung is compared with: all other rungs of its ladder that are far enough apart."""
        check_rungs(ladder, rank)
        ladders: dict[Hashable, dict[Hashable, float]] = {}
        for name, members in groups.items():
            if (value := rank[members[0]]) is not None:
                ladders.setdefault(ladder[members[0]], {})[name] = value
        return {
            name: [(other, own < theirs) for other, theirs in rungs.items() if apart(own, theirs, self.min_difference)]
            for rungs in ladders.values()
            for name, own in rungs.items()
        }

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row belongs to a copy or a rung; an answer to it without a value cannot be scored."""
        copy = self.perturbed and row.get("copy_of") is not None
        return copy or (self.ladders and row.get("ladder") is not None)
