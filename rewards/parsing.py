"""From a completion to a score: one parser for rewards, evaluation and scoring."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

SCORE_RANGE = (1.0, 5.0)
"""Range the prompt asks for."""

_OPEN, _CLOSE = "<answer>", "</answer>"
# No nested repetition: the match is linear in the text.
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_MAX_NUMBER_LENGTH = 32


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says.

    Attributes:
        score: The number, finite, never clamped; `None` when there is none.
        status: `"ok"`, `"out_of_range"` (a number outside [1, 5], kept in `score`), `"no_answer"` (no closed
            `<answer>` block) or `"no_number"` (a block without a finite number).
        decimals: Decimals written after trailing zeros are stripped: "3.50" has 1, "4" has 0.
    """

    score: float | None
    status: str
    decimals: int = 0

    @property
    def in_range(self) -> bool:
        """Whether the score can be taken at face value."""
        return self.status == "ok"


def text_of(completion: str | Sequence[dict[str, Any]]) -> str:
    """The text of a completion in either of TRL's forms.

    Args:
        completion: A string, or messages `[{"role": ..., "content": ...}]` whose last content counts; content may be a
            string or a list of `{"type": "text", "text": ...}` blocks.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Sequence) and completion and isinstance(completion[-1], dict):
        content = completion[-1].get("content")
        if isinstance(content, str):
            return content
        if isinstance(content, list):
            return "".join(block.get("text", "") for block in content if block.get("type") == "text")
    raise TypeError(
        f"a completion must be a string or a list of {{'role', 'content'}} messages, got {type(completion).__name__}: "
        f"{str(completion)[:80]!r}"
    )


def _answer_block(text: str, which: str) -> str | None:
    """Content of the first or last closed `<answer>` block; blocks do not overlap."""
    block, position = None, 0
    while True:
        start = text.find(_OPEN, position)
        end = text.find(_CLOSE, start + len(_OPEN)) if start >= 0 else -1
        if end < 0:
            return block
        block, position = text[start + len(_OPEN) : end], end + len(_CLOSE)
        if which == "first":
            return block


@lru_cache(maxsize=8192)  # several rewards look at the same completions
def _parse(text: str, which: str) -> ParsedAnswer:
    block = _answer_block(text, which)
    if block is None:
        return ParsedAnswer(None, "no_answer")
    match = _NUMBER.search(block)
    if match is None or len(match[0]) > _MAX_NUMBER_LENGTH or not math.isfinite(float(match[0])):
        return ParsedAnswer(None, "no_number")
    score = float(match[0])
    fraction = re.split("[eE]", match[0])[0].partition(".")[2].rstrip("0")
    status = "ok" if SCORE_RANGE[0] <= score <= SCORE_RANGE[1] else "out_of_range"
    return ParsedAnswer(score, status, len(fraction))


def parse_answer(completion: str | Sequence[dict[str, Any]], which: str = "last") -> ParsedAnswer:
    """The first number inside an `<answer>` block. A number in the reasoning never counts.

    Args:
        completion: Text or messages, see `text_of`.
        which: `"last"` block (published training code) or `"first"` (published test script).

    Returns:
        A `ParsedAnswer`. Linear in the length of the text; "inf", "nan" and "1e999" are no numbers.

    Raises:
        ValueError: If `which` is neither.

    Example:
        >>> parse_answer("<think>2 cars</think><answer>3.50</answer>")
        ParsedAnswer(score=3.5, status='ok', decimals=1)
    """
    if which not in ("first", "last"):
        raise ValueError(f"which={which!r}: must be 'first' or 'last'.")
    return _parse(text_of(completion), which)


def scores_of(completions: Sequence[Any], allow_out_of_range: bool = False) -> list[float | None]:
    """One score per completion; `None` where there is none, or where it leaves [1, 5] unless that is allowed."""
    answers = [parse_answer(completion) for completion in completions]
    return [a.score if a.in_range or (allow_out_of_range and a.score is not None) else None for a in answers]


def group_indices(video_id: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Indices of each video's entries, videos in order of first appearance. Position never makes a group."""
    groups: dict[Hashable, list[int]] = {}
    for index, name in enumerate(video_id):
        groups.setdefault(name, []).append(index)
    return groups


def check_columns(completions: Sequence[Any], **columns: Sequence[Any] | None) -> None:
    """Raise unless every column is there and has one entry per completion."""
    for name, column in columns.items():
        if column is None:
            raise ValueError(
                f"{name} is missing: this reward needs one {name} per completion. Add a `{name}` column to the "
                f"dataset or pass {name}=[...]."
            )
        if isinstance(column, str) or not hasattr(column, "__len__"):
            raise TypeError(
                f"{name}={column!r} is one value: rewards take a list with one {name} per completion. A framework "
                "that scores one sample at a time must pass lists of length 1 to the rewards that allow it."
            )
        if len(column) != len(completions):
            raise ValueError(
                f"{name} has {len(column)} entries for {len(completions)} completions: give one per completion."
            )


def check_mos(mos: Sequence[Any]) -> None:
    """Raise on a label that is not a finite number (`None` means unlabelled and is allowed)."""
    for index, value in enumerate(mos):
        if value is not None and not math.isfinite(float(value)):
            raise ValueError(f"mos[{index}]={value!r}: labels must be finite numbers, or None where there is none.")
