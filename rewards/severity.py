"""Severity reward: how near is the option that an answer names to the right one, where options have an order?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .choice import choice_index, parse_choice
from .parsing import check_columns


class Severity:
    """1 - |d| / (L - 1), d the steps between the option that is named and the right one, of L on the scale: of five
    degrees 1, 0.75, 0.5, 0.25 and 0. Beside `Choice`, which pays the right option alone.

    Args:
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, name: str = "severity") -> None:
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        answer: Sequence[str | None] | None = None,
        options: Sequence[Sequence[str] | None] | None = None,
        steps: Sequence[Sequence[int] | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N values in [0, 1]: 0.0 also where no option is named; `None` for rows whose options have no order.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            answer: N right answers, see `choice_index`.
            options: N lists of 2 to 26 texts.
            steps: For each of a row's options its step on the scale, 0 to L - 1, each once; `None` or an empty list
                where they have no order.
            columns: Not needed.

        Raises:
            ValueError: If a column has another length, an answer is none of its options, or steps are none.
            TypeError: If a column is one value.
        """
        if answer is None or options is None or steps is None:
            return [None] * len(completions)
        check_columns(completions, answer=answer, options=options, steps=steps)
        rows = zip(completions, answer, options, steps, strict=True)
        return [_nearness(text, right, own, order) if order else None for text, right, own, order in rows]

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row is a question with ordered options."""
        return bool(row.get("steps"))


def _nearness(completion: Any, right: str | None, options: Sequence[str] | None, steps: Sequence[int]) -> float:
    if right is None or options is None or sorted(steps) != list(range(len(options))):
        raise ValueError(
            f"steps={list(steps)} with options={options!r:.200} and answer={right!r}: give the right answer, and for "
            "each option its step on the scale, 0 to the number of options less one, each once."
        )
    found = parse_choice(completion, options)
    if found.index is None:
        return 0.0
    return nearness(found.index, choice_index(right, options), steps)


def nearness(named: int, right: int, steps: Sequence[int]) -> float:
    """1 - |d| / (L - 1) of two options of L.

    Args:
        named: Index of the option that is named.
        right: Index of the right one.
        steps: For each option its step on the scale.
    """
    return 1 - abs(steps[named] - steps[right]) / (len(steps) - 1)
