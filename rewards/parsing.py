"""From a completion to a score: one parser for rewards, evaluation and scoring."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .answer_number import MAX_NUMBER_LENGTH, SCORE_RANGE, Number, score_in

RULES = ("recommended", "official")
"""How a number is found in an answer. `recommended`: see `rewards.answer_number.score_in`. `official`: the first one,
whatever it belongs to (published code)."""

END_OF_TURN = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>", "<end_of_turn>", "<eos>", "<|end|>"),
    *("<\uff5cend\u2581of\u2581sentence\uff5c>", "<|endofassistant|>", "[|endofturn|]", "<pad>"),
)
"""Tokens that end an answer, and fill the batch behind it, in the templates of language models."""
_TAIL = re.compile(rf"(?:\s*(?:{'|'.join(re.escape(token[::-1]) for token in END_OF_TURN)}))+")

_OPEN, _CLOSE = "<answer>", "</answer>"
# No nested repetition: the match is linear in the text.
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says.

    Attributes:
        score: The number, finite, never clamped; `None` when there is none.
        status: `"ok"`, `"out_of_range"` (a number outside [1, 5], kept in `score`), `"no_answer"` (no closed
            `<answer>` block) or `"no_number"` (a block in which no finite number counts, see `parse_answer`).
        decimals: Decimals written after trailing zeros are stripped: "3.50" has 1, "4" has 0.
        start: Index of the number's first character in the text; `None` when there is none.
    """

    score: float | None
    status: str
    decimals: int = 0
    start: int | None = field(default=None, repr=False, compare=False)

    @property
    def in_range(self) -> bool:
        """Whether the score can be taken at face value."""
        return self.status == "ok"


def clean(text: str) -> str:
    """The text without end-of-turn tokens at its end, which some trainers leave there when they decode.

    They and the space behind them are no part of an answer. All else stays: the space before them, and a token that
    words follow. Linear in the text.

    Example:
        >>> clean("<answer>3.4</answer><|im_end|>\\n"), clean("<answer>3.4</answer>\\n")
        ('<answer>3.4</answer>', '<answer>3.4</answer>\\n')
    """
    match = _TAIL.match(text[::-1])
    return text[: len(text) - match.end()] if match else text


def text_of(completion: str | Sequence[dict[str, Any]]) -> str:
    """The text of a completion in either of TRL's forms, `clean`.

    Args:
        completion: A string, or messages `[{"role": ..., "content": ...}]` whose last content counts; content may be a
            string or a list of `{"type": "text", "text": ...}` blocks.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(completion, str):
        return clean(completion)
    if isinstance(completion, Sequence) and completion and isinstance(completion[-1], dict):
        content = completion[-1].get("content")
        if isinstance(content, str):
            return clean(content)
        if isinstance(content, list):
            return clean("".join(block.get("text", "") for block in content if block.get("type") == "text"))
    raise TypeError(
        f"a completion must be a string or a list of {{'role', 'content'}} messages, got {type(completion).__name__}: "
        f"{str(completion)[:80]!r}"
    )


def answer_block(text: str, which: str) -> tuple[int, int] | None:
    """Where the content of the first or last closed `<answer>` block begins and ends; blocks do not overlap."""
    block, position = None, 0
    while True:
        start = text.find(_OPEN, position)
        end = text.find(_CLOSE, start + len(_OPEN)) if start >= 0 else -1
        if end < 0:
            return block
        block, position = (start + len(_OPEN), end), end + len(_CLOSE)
        if which == "first":
            return block


def _first_number(text: str) -> Number | None:
    match = _NUMBER.search(text)
    if match is None or len(match[0]) > MAX_NUMBER_LENGTH or not math.isfinite(float(match[0])):
        return None
    fraction = re.split("[eE]", match[0])[0].partition(".")[2].rstrip("0")
    return Number(match.start(), float(match[0]), len(fraction))


@lru_cache(maxsize=8192)  # several rewards look at the same completions
def _parse(text: str, which: str, rule: str) -> ParsedAnswer:
    block = answer_block(text, which)
    if block is None:
        return ParsedAnswer(None, "no_answer")
    number = (_first_number if rule == "official" else score_in)(text[slice(*block)])
    if number is None:
        return ParsedAnswer(None, "no_number")
    status = "ok" if SCORE_RANGE[0] <= number.value <= SCORE_RANGE[1] else "out_of_range"
    return ParsedAnswer(number.value, status, number.decimals, block[0] + number.start)


def check_which(which: str) -> None:
    """Raise `ValueError` unless it names a block, `"first"` or `"last"`."""
    if which not in ("first", "last"):
        raise ValueError(f"which={which!r}: must be 'first' or 'last'.")


def check_rule(rule: str) -> None:
    """Raise `ValueError` unless it is one of `RULES`."""
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}: must be one of {RULES}.")


def parse_answer(
    completion: str | Sequence[dict[str, Any]], which: str = "last", rule: str = "recommended"
) -> ParsedAnswer:
    """The score inside an `<answer>` block. A number in the reasoning never counts.

    Args:
        completion: Text or messages, see `text_of`.
        which: `"last"` block (published training code) or `"first"` (published test script).
        rule: `"recommended"`: the one number that stands for a score. "3,75" is 3.75; ranges, scales, bounds, numbers
            on other scales and digits glued to letters do not count; of several others exactly one must lie in [1, 5].
            `"official"`: the first number, as published: "Score (1-5): 3.7" is 1, "3,75" is 3.

    Returns:
        A `ParsedAnswer`. Linear in the length of the text; "inf", "nan" and "1e999" are no numbers.

    Raises:
        ValueError: If `which` or `rule` is neither.

    Example:
        >>> parse_answer("<think>2 cars</think><answer>3.50</answer>")
        ParsedAnswer(score=3.5, status='ok', decimals=1)
        >>> parse_answer("<answer>Score (1-5): 3,75</answer>")
        ParsedAnswer(score=3.75, status='ok', decimals=2)
    """
    check_which(which)
    check_rule(rule)
    return _parse(text_of(completion), which, rule)


def scores_of(
    completions: Sequence[Any], allow_out_of_range: bool = False, rule: str = "recommended"
) -> list[float | None]:
    """One score per completion; `None` where there is none, or where it leaves [1, 5] unless that is allowed."""
    answers = [parse_answer(completion, rule=rule) for completion in completions]
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
                f"{name}={column!r} is a single value: rewards need a list with one {name} per completion. A framework "
                "that scores one sample at a time must pass lists of length 1 to the rewards that allow it."
            )
        if len(column) != len(completions):
            raise ValueError(
                f"{name} has {len(column)} entries for {len(completions)} completions: give one per completion."
            )


def check_mos(mos: Sequence[Any]) -> None:
    """Raise on a label that is not a finite number of 0 to 5 (`None` means unlabelled and is allowed)."""
    for index, value in enumerate(mos):
        if wrong := wrong_label(value):
            raise ValueError(f"mos[{index}]={value!r}: {wrong}")


def wrong_label(value: Any) -> str:
    """What is wrong with a label, "" if nothing."""
    if value is None:
        return ""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        return "labels must be finite numbers, or None for no label."
    if -1e-6 <= number <= SCORE_RANGE[1] + 1e-6:  # a conversion rounds
        return ""
    return (
        "labels must be on the scale of the scores, 1 to 5 (0 to 5 for a MOS / 20). Convert them first: a MOS of 0 to "
        "100 by 1 + 4 * mos / 100."
    )
