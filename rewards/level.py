"""Level reward: how near is the quality word of an answer to the right one? And the words, in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .answer_choice import folded, named_in
from .answer_number import SCORE_RANGE
from .parsing import answer_block, check_columns, text_of

LEVEL_WORDS: dict[str, tuple[str, ...]] = {
    "itu": ("excellent", "good", "fair", "poor", "bad"),
    "vqa2": ("high", "good", "fair", "poor", "low"),
}
"""Name -> five words, best first. `itu`: ITU-R BT.500, Q-Align, DeQA-Score. `vqa2`: VQA² (arXiv 2411.03795)."""
LEVEL_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""What the words are worth, best first (Q-Align, VQA²): the scores 5 to 1."""
_SLACK = 1e-9
"""Levels: a MOS on a bound belongs to the upper level, whatever rescaling left of it."""


@dataclass(frozen=True)
class ParsedLevel:
    """Which level an answer names.

    Attributes:
        level: 5 (best) to 1; `None` unless `status` is `"ok"`.
        status: `"ok"`, `"no_answer"` (no closed `<answer>` block), `"no_level"` (none of the words in it) or
            `"several"` (two of them).
    """

    level: int | None
    status: str


def level_words(name: str) -> tuple[str, ...]:
    """The five words of a name, best first.

    Raises:
        ValueError: If it is none of `LEVEL_WORDS`.
    """
    if name not in LEVEL_WORDS:
        raise ValueError(f"level words {name!r} are unknown: must be one of {list(LEVEL_WORDS)}.")
    return LEVEL_WORDS[name]


def level_of(mos: float) -> int:
    """The level of a MOS: floor(5 m) + 1 with m = (mos - 1) / 4, so the lower bound belongs to a level; 5 for m = 1.

    VQA²'s rule (Low is 0-20 of 100, High 80-100). Its published files give level 6 to m = 1, which no word has.

    Args:
        mos: In score units, 1 to 5.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> [level_of(mos) for mos in (1, 1.79, 1.8, 3.4, 4.2, 5)]
        [1, 1, 2, 4, 5, 5]
    """
    low, high = SCORE_RANGE
    if not low <= mos <= high:  # also catches NaN
        raise ValueError(
            f"mos {mos} has no level: the five levels share out the scores {low:g} to {high:g}. Rescale the labels to "
            "these, e.g. with the scale linear:0,100."
        )
    return min(5, math.floor(5 * (mos - low) / (high - low) + _SLACK) + 1)


def parse_level(completion: str | Sequence[dict[str, Any]], words: Sequence[str]) -> ParsedLevel:
    """The level word inside the last `<answer>` block; what the reasoning names never counts.

    Args:
        completion: Text or messages, see `text_of`.
        words: Five words, best first. Case does not matter; a negated word ("not good") does not count.

    Example:
        >>> parse_level("<answer>The quality of the video is Good.</answer>", LEVEL_WORDS["vqa2"])
        ParsedLevel(level=4, status='ok')
    """
    text = text_of(completion)
    block = answer_block(text, "last")
    if block is None:
        return ParsedLevel(None, "no_answer")
    found = named_in(text[slice(*block)], [folded(word) for word in words]).texts
    if len(found) != 1:
        return ParsedLevel(None, "several" if found else "no_level")
    return ParsedLevel(len(words) - min(found), "ok")


class Level:
    """Ordinal reward for quality words as a TRL / ms-swift reward function: 1 - |l - l*| / 4 for the levels l of the
    answer and l* of the label; 0 where no word, or more than one, is named.

    Args:
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, name: str = "level") -> None:
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        level: Sequence[float | None] | None = None,
        level_words: Sequence[Sequence[str] | None] | None = None,
        log_metric: Callable[[str, float], Any] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N values in [0, 1]; `None` for rows without a level or words.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            level: N right levels, 5 (best) to 1, see `level_of`; `None` entries, or none at all, for other tasks.
            level_words: N lists of five words, best first, alike.
            log_metric: TRL's hook; gets `level_unparsable`, the share of the answers that name no level.
            columns: Not needed.

        Raises:
            ValueError: If a column has another length, or a level is none of 1 to 5.
        """
        given = {"level": level, "level_words": level_words}
        check_columns(completions, **{name: column for name, column in given.items() if column is not None})
        if level is None or level_words is None:
            return [None] * len(completions)
        values: list[float | None] = []
        unparsable = []
        for completion, right, own in zip(completions, level, level_words, strict=True):
            if not _has_level(right, own):
                values.append(None)
                continue
            if right not in range(1, len(own) + 1):  # type: ignore[arg-type]  # `_has_level` has looked
                raise ValueError(f"level={right!r}: must be 1 (worst) to 5 (best), see rewards.level_of.")
            found = parse_level(completion, own).level  # type: ignore[arg-type]  # likewise
            values.append(0.0 if found is None else 1 - abs(found - right) / (len(own) - 1))  # type: ignore[operator, arg-type]
            unparsable.append(found is None)
        if log_metric is not None and unparsable:
            log_metric("level_unparsable", sum(unparsable) / len(unparsable))
        return values

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row asks for a level and the right one is known."""
        return _has_level(row.get("level"), row.get("level_words"))


def _has_level(level: Any, words: Any) -> bool:
    """Tables of several tasks fill the cells of other tasks with `None` or empty lists."""
    return level is not None and words is not None and len(words) > 0
