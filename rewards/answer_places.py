"""Where and when an answer says that something is, and how often: a box, an interval, a whole number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .parsing import answer_block, check_which, text_of

WORDS = (*("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),)
"""Whole numbers that count when they are written out."""
BOX_RANGE = (0.0, 100.0)
"""Edges of a box, in percent of a frame's width (x) and height (y)."""

# Digits that are glued to no letter but a unit: "1.2s", "x1=10", "20%". Before one a minus, but no dash between two.
_UNIT = r"(?:s(?:ecs?|econds?)?)?(?!\w)"
_TIME = re.compile(rf"(?<![\w.,])(?:(\d{{1,3}}):)?(\d{{1,6}}(?:[.,]\d{{1,9}})?){_UNIT}")
_EDGE = re.compile(r"(?<![\w.])(?:(?<!\d)(?<!\d\s)-)?\d{1,6}(?:\.\d{1,9})?(?!\w)")
_SEPARATOR = re.compile(r"(\d\.\d+),(?=\d+\.\d)")  # of "1.2,2.4", where a comma is no decimal point
_MINUS = re.compile(r"(?:^|[\[(,;]|\b(?:from|to|and|between))\s*[-\u2212]\d", re.IGNORECASE)
_OTHER_UNIT = re.compile(r"%|(?:frame|minute|pixel)s?\b|\b(?:min|px|ms)\b", re.IGNORECASE)
_RANGE = re.compile(r"\d\s*[-\u2013\u2014]\s*\d")
_WHOLE = re.compile(rf"(?<![\w.,-])\d{{1,6}}(?![\w%]|[.,]\d)|\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedValues:
    """What an answer says in numbers.

    Attributes:
        values: An interval (start, end), a box (x1, y1, x2, y2) or a count (n,); empty unless `status` is `"ok"`.
        status: `"ok"`, `"no_answer"` (no closed `<answer>` block), `"no_value"` (not as many numbers as are asked for),
            `"out_of_order"` (an end that is not behind its start) or `"out_of_range"` (an edge outside 0-100).
    """

    values: tuple[float, ...]
    status: str


def parse_interval(completion: str | Sequence[dict[str, Any]], which: str = "last") -> ParsedValues:
    """The interval in an `<answer>` block, in seconds or minutes and seconds (1:02): exactly two numbers, the end
    behind the start. Frames, minutes and percent are none.

    Args:
        completion: Text or messages, see `text_of`.
        which: `"last"` or `"first"` block.

    Raises:
        ValueError: If `which` is neither.

    Example:
        >>> parse_interval("<answer>from 1.2 s to 2.4 s</answer>").values
        (1.2, 2.4)
        >>> parse_interval("<answer>0:59-1:02</answer>").values
        (59.0, 62.0)
    """
    check_which(which)
    return _parse(text_of(completion), which, "interval")


def parse_box(completion: str | Sequence[dict[str, Any]], which: str = "last") -> ParsedValues:
    """The box in an `<answer>` block: exactly four numbers x1, y1, x2, y2 (left, top, right, bottom) in percent of the
    frame's width and height. Arguments and errors as `parse_interval`.

    Example:
        >>> parse_box("<answer>10, 20, 60, 80</answer>").values, parse_box("<answer>60, 20, 10, 80</answer>").status
        ((10.0, 20.0, 60.0, 80.0), 'out_of_order')
    """
    check_which(which)
    return _parse(text_of(completion), which, "box")


def parse_count(completion: str | Sequence[dict[str, Any]], which: str = "last") -> ParsedValues:
    """The whole number in an `<answer>` block, in digits or as a word up to twelve; of several, they must be equal.
    A range (2-3) is none.
    Arguments and errors as `parse_interval`.

    Example:
        >>> parse_count("<answer>Three times (3).</answer>").values, parse_count("<answer>2 or 3</answer>").status
        ((3,), 'no_value')
    """
    check_which(which)
    return _parse(text_of(completion), which, "count")


@lru_cache(maxsize=8192)  # rewards, counters and metrics look at the same completions
def _parse(text: str, which: str, form: str) -> ParsedValues:
    block = answer_block(text, which)
    return ParsedValues((), "no_answer") if block is None else values_in(text[slice(*block)], form)


def values_in(text: str, form: str) -> ParsedValues:
    """What a text says, without tags; what question files give as the right answer is read so too.

    Args:
        text: As "1.2-2.4".
        form: `"interval"`, `"box"` or `"count"`.
    """
    return {"interval": _interval, "box": _box, "count": _count}[form](text)


def _interval(text: str) -> ParsedValues:
    text = _SEPARATOR.sub(r"\1, ", text)
    found = [60 * int(m[1] or 0) + float(m[2].replace(",", ".")) for m in _TIME.finditer(text)]
    if len(found) != 2 or _OTHER_UNIT.search(text) or _MINUS.search(text):
        return ParsedValues((), "no_value")
    return ParsedValues(tuple(found), "ok") if found[0] < found[1] else ParsedValues((), "out_of_order")


def _box(text: str) -> ParsedValues:
    found = [float(match[0]) for match in _EDGE.finditer(text)]
    if len(found) != 4 or _OTHER_UNIT.search(text.replace("%", "")):
        return ParsedValues((), "no_value")
    x1, y1, x2, y2 = found
    if not (x1 < x2 and y1 < y2):
        return ParsedValues((), "out_of_order")
    inside = all(BOX_RANGE[0] <= edge <= BOX_RANGE[1] for edge in found)
    return ParsedValues(tuple(found), "ok") if inside else ParsedValues((), "out_of_range")


def _count(text: str) -> ParsedValues:
    if _RANGE.search(text):
        return ParsedValues((), "no_value")
    said = (match[0].lower() for match in _WHOLE.finditer(text))
    found = {WORDS.index(word) if word in WORDS else int(word) for word in said}
    return ParsedValues((found.pop(),), "ok") if len(found) == 1 else ParsedValues((), "no_value")


def interval_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Length that two intervals (start, end) share, over the length that they cover together; in [0, 1].

    Example:
        >>> interval_iou((0, 2), (1, 3))
        0.3333333333333333
    """
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared / (one[1] - one[0] + other[1] - other[0] - shared)


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Area that two boxes (x1, y1, x2, y2) share, over the area that they cover together; in [0, 1].

    Example:
        >>> box_iou((0, 0, 10, 10), (5, 0, 15, 10))
        0.3333333333333333
    """
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (math.fsum(areas) - width * height)
