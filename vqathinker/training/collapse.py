"""What shows early that a policy stops telling clips apart, and from which value on; see `docs/rewards.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATIENCE = 3
"""Rows of the log in a row that must show a sign: one batch of few clips may show any."""


@dataclass(frozen=True)
class Sign:
    """A metric beyond a threshold.

    Attributes:
        metric: Name in the log.
        threshold: Value.
        above: Whether values above the threshold are the sign; else those below it.
        means: What it means, and what helps.
        growth: The value must also be above so many times the first one that was logged.
    """

    metric: str
    threshold: float
    above: bool
    means: str
    growth: float = 0.0

    @property
    def rule(self) -> str:
        """E.g. "below 0.3"."""
        rule = f"{'above' if self.above else 'below'} {self.threshold:g}"
        return f"{rule} and {self.growth:g} times its first value" if self.growth else rule

    def shown_by(self, value: float, first: float) -> bool:
        """Whether a value is beyond the threshold; NaN is not."""
        return value > max(self.threshold, self.growth * first) if self.above else value < self.threshold


SIGNS = (
    Sign(
        "quality/group_reward_std",
        0.05,
        False,
        "all answers to a clip earn nearly the same, so little is left to learn from",
    ),
    Sign(
        "quality/zero_gradient_groups",
        0.75,
        True,
        "so many clips of a batch teach nothing; try a larger num_generations or temperature",
    ),
    Sign("entropy", 0.02, False, "answers stop differing; try a larger beta or a smaller learning_rate"),
    Sign("entropy", 1.0, True, "answers fall apart; try a larger beta or a smaller learning_rate", growth=2.0),
    Sign("quality/identical_answers", 0.9, True, "the answers to a clip give the same score"),
    Sign("quality/common_score", 0.8, True, "nearly every clip gets the same score"),
    Sign("quality/score_spread", 0.3, False, "clips get nearly the same score, the policy has collapsed"),
)
"""All signs, in the order of the table in `docs/rewards.md`."""


class CollapseWatch:
    """Which signs the log shows.

    Attributes:
        shown: Signs that each of the last `PATIENCE` rows with their metric has shown, with the newest value.
    """

    def __init__(self) -> None:
        self.shown: dict[Sign, float] = {}
        self._first: dict[str, float] = {}
        self._rows: dict[Sign, int] = {}

    def update(self, logs: Mapping[str, Any]) -> list[Sign]:
        """Take a row of the log.

        Args:
            logs: Metric -> value; `None` where it is unknown, which changes nothing.

        Returns:
            The signs that it completes. One is returned again only after a row without it.
        """
        new = []
        for sign in SIGNS:
            value = logs.get(sign.metric)
            if value is None:
                continue
            first = self._first.setdefault(sign.metric, value)
            self._rows[sign] = self._rows.get(sign, 0) + 1 if sign.shown_by(value, first) else 0
            if self._rows[sign] == PATIENCE:
                new.append(sign)
            if self._rows[sign] >= PATIENCE:
                self.shown[sign] = value
            else:
                self.shown.pop(sign, None)
        return new
