"""The reward designs that the papers compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .parsing import check_columns, check_mos, scores_of, text_of


def threshold_reward(score: float, mos: float, threshold: float = 0.35) -> float:
    """1.0 if |s - g| <= threshold, else 0.0 (Q-Insight's score reward)."""
    return float(abs(score - mos) <= threshold)


def linear_reward(score: float, mos: float, span: float = 4.0) -> float:
    """1 - |s - g| / span, at least 0 (VQ-Insight: linear in the absolute error); span is the scale's width, 5 - 1."""
    return max(0.0, 1.0 - abs(score - mos) / span)


def _pointwise(
    reward: Callable[[float, float], float], completions: Sequence[Any], mos: Sequence[float | None]
) -> list[float | None]:
    check_columns(completions, mos=mos)
    check_mos(mos)
    return [
        None if score is None or label is None else reward(score, float(label))
        for score, label in zip(scores_of(completions), mos, strict=True)
    ]


class Threshold:
    """Q-Insight's binary score reward as a TRL / ms-swift reward function.

    Args:
        threshold: Largest absolute error that still earns 1, in score units, > 0.
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, threshold: float = 0.35, name: str = "threshold") -> None:
        if not threshold > 0:
            raise ValueError(f"threshold={threshold}: must be positive.")
        self.threshold = threshold
        self.__name__ = name

    def __call__(self, completions: Sequence[Any], mos: Sequence[float | None], **columns: Any) -> list[float | None]:
        """N values in {0, 1}, `None` where answer or label is missing. Raises `ValueError` on bad labels."""
        return _pointwise(lambda s, g: threshold_reward(s, g, self.threshold), completions, mos)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a label; an answer to it without a value cannot be scored."""
        return row.get("mos") is not None


class Linear:
    """VQ-Insight's linear score reward as a TRL / ms-swift reward function.

    Args:
        span: Absolute error at which the reward reaches 0, in score units, > 0.
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, span: float = 4.0, name: str = "linear") -> None:
        if not span > 0:
            raise ValueError(f"span={span}: must be positive.")
        self.span = span
        self.__name__ = name

    def __call__(self, completions: Sequence[Any], mos: Sequence[float | None], **columns: Any) -> list[float | None]:
        """N values in [0, 1], `None` where answer or label is missing. Raises `ValueError` on bad labels."""
        return _pointwise(lambda s, g: linear_reward(s, g, self.span), completions, mos)

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a label; an answer to it without a value cannot be scored."""
        return row.get("mos") is not None


class Length:
    """1.0 when the completion's length in words lies in a range, else 0.0 (VQ-Insight's length control).

    Args:
        low: Fewest words.
        high: Most words.
        name: Metric key.

    Raises:
        ValueError: Unless 0 <= low <= high.
    """

    floor = 0.0

    def __init__(self, low: int = 20, high: int = 300, name: str = "length") -> None:
        if not 0 <= low <= high:
            raise ValueError(f"low={low}, high={high}: need 0 <= low <= high.")
        self.low, self.high = low, high
        self.__name__ = name

    def __call__(self, completions: Sequence[Any], mos: Any = None, **columns: Any) -> list[float | None]:
        """One 0.0 or 1.0 per completion; no label is needed."""
        return [float(self.low <= len(text_of(c).split()) <= self.high) for c in completions]

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Every answer can be scored."""
        return True
