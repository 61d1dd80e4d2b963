"""Which number of an answer is its score: whole numbers only, and none that belongs to a range, a scale or a bound."""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import NamedTuple

SCORE_RANGE = (1.0, 5.0)
"""Range the prompt asks for."""
MAX_NUMBER_LENGTH = 32
MAX_DIGIT_GROUPS = 100
"""An answer with more is a text, and none of its numbers a score."""


class Number(NamedTuple):
    """A number in a text.

    Attributes:
        start: Index of its first character, the sign if it has one.
        digits: Index behind the sign.
        end: Index behind its last character.
        value: Finite; NaN for digits that are no number by themselves ("4K", "0x1F", "3.4.5").
        decimals: Decimals written after trailing zeros are stripped.
    """

    start: int
    digits: int
    end: int
    value: float
    decimals: int


# The time is linear in the text: few numbers are looked at, repetitions are not nested, and of what stands between two
# numbers only _NEAR characters are searched for more than one thing.
_NEAR = 60
# Hyphens, minus and slashes become plain ones; emphasis and quotes spaces.
_PLAIN = str.maketrans("\u2010\u2011\u2212\u2044\u2215*`$\"'", "---//     ")
_TAG = re.compile(r"<[/|]?[A-Za-z][^<>]{0,60}>|<([-+0-9.,]{1,12})>")  # "<b>", "<3.7>"
# A sign, then letters and digits with what joins them: a dot (not two), a comma or colon between digits, the sign of an
# exponent, a hyphen between letter and digit ("MPEG-4", but not "1-to-5"), a comma that begins a word, a times sign,
# the space of "1 000".
_RUN = re.compile(
    r"(?:(?<![\w.)\]}%+-])[-+](?=[0-9.]))?"
    r"(?:[\w\xd7]|(?<!\.)\.(?!\.)|(?<=[0-9])[,:](?=[0-9])|(?<=[0-9][eE])[-+](?=[0-9])"
    r"|(?<=[^\W0-9])(?<!-to)-(?=[0-9])|(?<!\S),(?=[0-9])|(?<=[0-9])\s(?=[0-9]{3}(?!\S)))+",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"[0-9]+")
_WHOLE = re.compile(r"[-+]?(?:[0-9]+(?:[.,]([0-9]+))?|\.([0-9]+))(?:[eE][-+]?[0-9]+)?")

_UNIT = r"(?:point|star|level|grade|step|categor(?:y|ie))s?"
_REMARK = r"[\s)\]}]*(?:\([^()]*\)\s*)?"  # "1 (bad) to 5"
_ARTICLE = r"(?:(?:an?|the|possible|total|max(?:imum)?|of)\s+){0,4}"
_TO = re.compile(
    rf"{_REMARK}(?:[-\u2012-\u2015~]{{1,3}}|\.{{2,3}}|\u2026|(?:up\s+|-)?to-?|through|thru|until|till)[\s(\[{{]*(?:an?\s+)?",
    re.IGNORECASE,
)
_OPENINGS = (  # "between 3 and 4", "from 1 = bad to 5 = excellent": what stands before, and what between the numbers
    (re.compile(r"\bbetween\s+(?:an?\s+)?$", re.IGNORECASE), re.compile(r".*\band\s+(?:an?\s+)?", re.I | re.S)),
    (re.compile(r"\bfrom\s+(?:an?\s+)?$", re.IGNORECASE), re.compile(r".*\bto\s+(?:an?\s+)?", re.I | re.S)),
)
_ANCHOR = re.compile(r"\s*(?:[=:(]|\w{1,12}ing\b|(?:means|is|for|stands)\b)", re.IGNORECASE)  # "1 = bad, 5 = excellent"
_OF = re.compile(rf"[\s()\[\]{{}}]*(?:{_UNIT}\b)?{_REMARK}(?:/|(?:out\s+)?of\b)\s*{_ARTICLE}[\s(\[{{]*", re.IGNORECASE)
_END_OF_SCALE = re.compile(
    rf"(?:\bout\s+of|\bscale\s+of|\bmax(?:imum\b|\b\.?)(?:\s+of|\s+is|\s*[:=])?|(/))\s*{_ARTICLE}[(\[{{]?\s*$",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"(?:(?:[<≤≥]|(?<![-=])>)=?|±|\+/?-|\b(?:plus\s+or\s+minus|(?:\w+er|more|less|worse)\s+than|at\s+(?:least|most)"
    r"|below|above|under|over|up\s+to|min(?:imum\b|\b\.?)(?:\s+of|\s+is|\s*[:=])?)|&[lg]te?;|\\[lg]eq?\b)\s*[-+]?$",
    re.IGNORECASE,
)
_NOT_ALONE = re.compile(  # percent, "3-second", "4+", "3 or more", "3 and a half"
    r"\s*(?:%|per\s?cent|[¼-¾⅐-⅞])|-[^\W0-9]|\+(?![0-9./-])|\s+(?:or\s+(?:\w{1,8}er|more|less|above|below|worse)"
    r"|and\s+a\s+half)\b|\s*[<>≤≥]=?\s*[\w.]",
    re.IGNORECASE,
)
_POINT_SCALE = re.compile(rf"-\s?point|(?:-\s?|\s+){_UNIT}\b[-\s]+(?:\w{{1,12}}\s+)?scale\b", re.IGNORECASE)
_OTHER_END = r"(?:three|four|six|seven|eight|nine|ten|twenty|(?:(?:an?|one)\s+)?hundred)"
_OTHER_IN_WORDS = re.compile(
    rf"\b(?:(?:out|scale)\s+of|(?:zero|one|[01])\s+to)\s+{_OTHER_END}\b|/\s?{_OTHER_END}\b|\b{_OTHER_END}-point",
    re.IGNORECASE,
)
_SCALE_BEFORE = re.compile(r"\bscale\b[^0-9]{0,20}$", re.IGNORECASE)
_SCALE_BEHIND = re.compile(r"[)\]]?[-\s]*(?:\w{1,12}\s+)?scale\b", re.IGNORECASE)


def score_in(text: str) -> Number | None:
    """The number that an answer gives as its score.

    A number is digits with a sign, a decimal point or comma and an exponent, where it has them, and nothing glued to
    them: "4K", "1080p", "0x1F", "3rd" and "3.4.5" hold none. Ranges ("1-5", "between 3 and 4"), the ends of scales
    ("5-point", "out of 5"), bounds ("<3", "at least 4") and numbers on another scale than ours ("4/10", "80%", "4.2 on
    a scale of 1 to 10") are left out.

    Args:
        text: What the answer says.

    Returns:
        The one number that is left, or of several the one in [1, 5]; `None` if there is none or more than one.
    """
    if not 0 < sum(1 for _ in islice(_DIGITS.finditer(text), MAX_DIGIT_GROUPS + 1)) <= MAX_DIGIT_GROUPS:
        return None
    # The length stays, and so do the indices.
    plain = _TAG.sub(lambda tag: f" {tag[1]} " if tag[1] else " " * len(tag[0]), text.translate(_PLAIN))
    left = _outside_expressions(plain, _numbers(plain))
    if len(left) > 1:
        left = [number for number in left if SCORE_RANGE[0] <= number.value <= SCORE_RANGE[1]]
    return left[0] if len(left) == 1 else None


def _numbers(plain: str) -> list[Number]:
    """All that has digits, in order."""
    found: list[Number] = []
    for run in _RUN.finditer(plain):
        if not _DIGITS.search(run[0]):
            continue
        body = run[0].rstrip(".")  # the end of a sentence
        whole = _WHOLE.fullmatch(body) if len(body) <= MAX_NUMBER_LENGTH else None
        value = float(body.replace(",", ".")) if whole else math.nan
        value = value if math.isfinite(value) else math.nan  # "1e999"
        fraction = (whole[1] or whole[2] or "") if whole else ""
        digits = run.start() + (body[0] in "+-")
        found.append(Number(run.start(), digits, run.start() + len(body), value, len(fraction.rstrip("0"))))
    return found


def _outside_expressions(plain: str, numbers: list[Number]) -> list[Number]:
    """The numbers that could be a score."""
    ends = [0, *(number.end for number in numbers)]
    gaps = [plain[end : number.digits] for end, number in zip(ends, numbers, strict=False)]  # before each number
    ranges = {i for i in range(1, len(numbers)) if _is_range(plain, gaps, numbers, i)}  # of numbers i-1 and i
    dropped = {i for i, number in enumerate(numbers) if math.isnan(number.value)} | ranges | {i - 1 for i in ranges}
    other_scale = bool(_OTHER_IN_WORDS.search(plain)) or any(_is_other_scale(plain, gaps, numbers, i) for i in ranges)
    ours = set()  # "4/5", "4 out of 5"
    for i, number in enumerate(numbers):
        fits, near = number.value == SCORE_RANGE[1], gaps[i][-_NEAR:]
        if i and len(gaps[i]) <= _NEAR and _OF.fullmatch(gaps[i]):
            dropped.add(i)
            if fits:
                ours.add(i - 1)
            else:
                dropped |= {i - 1, i - 2} if gaps[i - 1].isspace() else {i - 1}  # "4/10"; "3 1/2"
        elif i not in dropped and (end := _END_OF_SCALE.search(near)):
            dropped.add(i)
            other_scale |= not fits and not end[1]
        elif _POINT_SCALE.match(plain, number.end):
            dropped.add(i)
            other_scale |= not fits
        elif _BOUND.search(near) or _NOT_ALONE.match(plain, number.end):
            dropped.add(i)
    return [n for i, n in enumerate(numbers) if i not in dropped and (i in ours or not other_scale)]


def _is_range(plain: str, gaps: list[str], numbers: list[Number], i: int) -> bool:
    """Whether the numbers i-1 and i are the ends of a range or of our scale."""
    gap = gaps[i]
    if len(gap) > _NEAR:
        return False
    if math.isnan(numbers[i - 1].value) or math.isnan(numbers[i].value):
        return gap == "-"  # "4K-5"
    if _TO.fullmatch(gap) or (gap.strip() in (",", ";") and _in_brackets(plain, gaps, numbers, i)):
        return True
    if {numbers[i - 1].value, numbers[i].value} == set(SCORE_RANGE) and _ANCHOR.match(gap):
        return True
    before = gaps[i - 1][-_NEAR:]
    return any(opening.search(before) and closing.fullmatch(gap) for opening, closing in _OPENINGS)


def _is_other_scale(plain: str, gaps: list[str], numbers: list[Number], i: int) -> bool:
    """Whether the range of the numbers i-1 and i is a scale that does not end at 5."""
    low, high = sorted((numbers[i - 1].value, numbers[i].value))
    if high == SCORE_RANGE[1]:
        return False
    named = _SCALE_BEFORE.search(gaps[i - 1][-_NEAR:]) or _SCALE_BEHIND.match(plain, numbers[i].end)
    bracketed = low in (0, 1) and high > SCORE_RANGE[1] and _in_brackets(plain, gaps, numbers, i)
    return bool(named) or bracketed


def _in_brackets(plain: str, gaps: list[str], numbers: list[Number], i: int) -> bool:
    """Whether a bracket holds the numbers i-1 and i and nothing more."""
    return gaps[i - 1].endswith(("(", "[")) and plain.startswith((")", "]"), numbers[i].end)
