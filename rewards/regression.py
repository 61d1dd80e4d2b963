"""Bell-shaped regression reward (VQAThinker Eq. 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .parsing import check_columns, check_mos, check_rule, parse_answer, scores_of


def gaussian_regression(score: float, mos: float, alpha: float = 1.0, sigma: float = 0.5) -> float:
    """alpha * exp(-(s - g)^2 / (2 sigma^2)) (VQAThinker Eq. 5).

    Args:
        score: Predicted score s.
        mos: Label g on the same scale.
        alpha: Height in (0, 1] (paper 0.8).
        sigma: Width > 0 in score units (paper 0.5).

    Returns:
        Reward in [0, alpha].
    """
    return alpha * math.exp(-((score - mos) ** 2) / (2 * sigma**2))


class Regression:
    """Gaussian regression reward as a TRL / ms-swift reward function.

    Args:
        alpha: Height in (0, 1].
        sigma: Width > 0.
        decimal_penalty: Factor in (0, 1] for answers with fewer than two decimals after trailing zeros are stripped
            (published code: 0.8, so "3.50" is punished); 1.0 turns it off.
        allow_out_of_range: Score answers outside [1, 5] too (published code) instead of returning `None`.
        name: Metric key.
        rule: How a number is found in an answer, `"recommended"` or `"official"`, see `parse_answer`.

    Raises:
        ValueError: If a number is outside its range, or `rule` is unknown.
    """

    floor = 0.0

    def __init__(
        self,
        alpha: float = 1.0,
        sigma: float = 0.5,
        decimal_penalty: float = 1.0,
        allow_out_of_range: bool = False,
        name: str = "regression",
        rule: str = "recommended",
    ) -> None:
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha={alpha}: must lie in (0, 1].")
        if not sigma > 0:
            raise ValueError(f"sigma={sigma}: must be positive.")
        if not 0 < decimal_penalty <= 1:
            raise ValueError(f"decimal_penalty={decimal_penalty}: must lie in (0, 1]; 1 turns it off.")
        check_rule(rule)
        self.alpha, self.sigma, self.rule = alpha, sigma, rule
        self.decimal_penalty, self.allow_out_of_range = decimal_penalty, allow_out_of_range
        self.__name__ = name

    def __call__(self, completions: Sequence[Any], mos: Sequence[float | None], **columns: Any) -> list[float | None]:
        """One reward in [0, alpha] per completion, `None` where answer or label is missing.

        Args:
            completions: N texts or message lists.
            mos: N labels.

        Raises:
            ValueError: If the lengths differ or a label is not finite.
        """
        check_columns(completions, mos=mos)
        check_mos(mos)
        values: list[float | None] = []
        for completion, score, label in zip(
            completions, scores_of(completions, self.allow_out_of_range, self.rule), mos, strict=True
        ):
            if score is None or label is None:
                values.append(None)
                continue
            value = gaussian_regression(score, float(label), self.alpha, self.sigma)
            if parse_answer(completion, rule=self.rule).decimals < 2:
                value *= self.decimal_penalty
            values.append(value)
        return values

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a label; an answer to it without a value cannot be scored."""
        return row.get("mos") is not None
