"""Format reward (VQAThinker Eq. 4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .parsing import text_of

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_BETWEEN = re.compile(r"</think>\s*<answer>")


def format_reward(text: str, strict: bool = False) -> float:
    """1.0 if the text is `<think>...</think>` followed by `<answer>...</answer>` and nothing else, else 0.0.

    Equal to a full match of `<think>.*?</think>\\s*<answer>.*?</answer>` (dot matches newline), without its
    backtracking: linear in the text.

    Args:
        text: The completion.
        strict: Also demand each of the four tags exactly once, so that a second answer cannot be slipped in; space
            around the whole is then allowed.

    Returns:
        0.0 or 1.0.
    """
    if strict:
        text = text.strip()
        if any(text.count(tag) != 1 for tag in _TAGS):
            return 0.0
    if not (text.startswith(_TAGS[0]) and text.endswith(_TAGS[3])):
        return 0.0
    between = _BETWEEN.search(text, len(_TAGS[0]))
    return float(between is not None and between.end() <= len(text) - len(_TAGS[3]))


class Format:
    """Format reward as a TRL / ms-swift reward function.

    Args:
        strict: See `format_reward`.
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, strict: bool = False, name: str = "format") -> None:
        self.strict = strict
        self.__name__ = name

    def __call__(self, completions: Sequence[Any], mos: Any = None, **columns: Any) -> list[float | None]:
        """One 0.0 or 1.0 per completion; `mos` and other columns are not needed."""
        return [format_reward(text_of(completion), self.strict) for completion in completions]

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Every answer can be scored."""
        return True
