"""Which number of an answer is its score: a whole one, and none that belongs to a range, a scale or a bound."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

SCORE_RANGE = (1.0, 5.0)
"""Range the prompt asks for."""
MAX_NUMBER_LENGTH = 32
MAX_NUMBERS = 100
"""An answer with more is a text, and none of its numbers a score."""


class Number(NamedTuple):
    """A number in a text: index of its first character (the sign if it has one), value, decimals without zeros."""

    start: int
    value: float
    decimals: int


# All patterns are linear in the text: no repetition stands within another, nor beside one of the same characters.
_PLAIN = str.maketrans("\u2010\u2011\u2212\u2044\u2215\xb7\uff0e\uff0c*`$\"'#?", "---//..,       ")  # emphasis: spaces
_PLAIN |= str.maketrans("\uff1c\ufe64\uff1e\ufe65\u2266\u2a7d\u2272\u2267\u2a7e\u2273", "<<>>≤≤≤≥≥≥")  # signs of bounds
_ENTITY = re.compile(r"&(?:(lt|#60)|(gt|#62)|(le)|(ge));")  # as answers come that were shown on a page
_TAG = re.compile(r"<[/|]?[A-Za-z][^<>]{0,60}>|<([0-9.,]{1,12})>")  # "<b>", the brackets of "<3.7>"
# Letters and digits with what joins them: a sign, a dot (not two), a comma or colon between digits, a hyphen from
# letter to digit ("MPEG-4", but not "1-to-5"), the sign of an exponent, the space of "1 000".
_RUN = re.compile(
    r"(?:(?<![\w.)\]-])[-+](?=[0-9.]))?"
    r"(?:[\w\xd7]|(?<!\.)\.(?!\.)|(?<=[0-9])[,:](?=[0-9])|(?<=[^\W0-9])(?<!-to)-(?=[0-9])"
    r"|(?<=[0-9][eE])[-+](?=[0-9])|(?<=[0-9])\s(?=[0-9]{3}(?!\S)))+"
)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:[.,]([0-9]+))?|\.([0-9]+))(?:[eE][-+]?[0-9]+)?")

# Of what follows, "#" is a number and spaces are single. A range may have remarks: "1 (bad) to 5".
_REMARK = r"[)\]]? ?(?:\([^()#]{0,40}\) ?|= ?\w+ )?"
_ARTICLE = r"(?:an? |the |possible |maximum ){0,3}[(\[]?"
_SCALE = r"(?:point|star|level|grade|step)s?"
_RANGE = re.compile(
    rf"(scale[^#]{{0,20}})?#{_REMARK}(?:[-~\u2012-\u2015]|\.{{2,3}}|\u2026|-?to-?|through) ?#([ )\]-]{{0,2}}scale)?"
    rf"|between {_ARTICLE}#{_REMARK}and {_ARTICLE}#|[(\[]#[,;] #[)\]]"
)
_OTHER_RANGE = re.compile(r"[(\[]#-#[)\]]")  # "(0-100)": a scale, though it is not called one
_SHARE = re.compile(rf"(# )?#(?: {_SCALE})?{_REMARK}(?:/|out of|of) ?{_ARTICLE}#")  # "4/5", "4 out of 5", "3 1/2"
_TOP = re.compile(
    rf"(?:out of|scale of|max[a-z.]{{0,5}}(?: of)?|/) ?{_ARTICLE}#|#[- ]{_SCALE}[- ](?:\w+ )?scale|#-point"
)
_OTHER_TOP = re.compile(r"(?:out of|scale of|/) ?(?:a )?(?:three|four|six|seven|eight|nine|ten|twenty|hundred)\b")
_THAN = r"(?:less|more|lower|higher|smaller|greater|larger|fewer|better|worse) than(?: or equal to)?"
_BOUND = rf"(?:at least|at most|{_THAN}|below|above|under|over|beyond|up to|upwards of|exceed(?:s|ing)|minimum(?: of)?)"
_NO_SCORE = re.compile(  # bounds, tolerances, percent, "3-second", "3 or more"
    rf"(?:(?:[<≤≥±]|(?<![-=])>|\\(?:leq?|lt|geq?|gt)(?:slant)?\b) ?=?|\+/-|\b{_BOUND}:?(?: an?| the)?|\bmin\.) ?#"
    r"|#(?: ?%| percent|[½¼¾+]|-[a-z]| or (?:more|less|above|below|higher|lower|greater|fewer|better|worse)"
    r"| and a half|(?= ?(?:<(?![/|])|[>≤≥]))"  # "3 < score", but no tag that is cut off
    r"| (?:and (?:above|below|up|higher|lower)|at (?:least|most)|max(?:imum)?|minimum|plus)(?!\.? ?[\w#(]))"
)


def score_in(text: str) -> Number | None:
    """The number that an answer gives as its score.

    A number is digits with a sign, a decimal point or comma and an exponent, where it has them, and nothing glued to
    them: "4K", "1080p", "0x1F", "3rd" and "3.4.5" hold none. Ranges ("1-5", "between 3 and 4"), the ends of scales
    ("5-point", "out of 5"), bounds in signs or words ("<3", "3 < x", "&lt;3", "at least 4", "4 or higher") and numbers
    on another scale than ours ("4/10", "80%", "4.2 on a scale of 1 to 10") are left out.

    Args:
        text: What the answer says.

    Returns:
        The one number that is left, or of several the one in [1, 5]; `None` if there is none or more than one.
    """
    numbers, sketch = _sketch(text)
    dropped, other_scale = _expressions(sketch, numbers) if numbers else (set(), False)
    left = [number for i, number in enumerate(numbers) if i not in dropped]
    if len(left) > 1:
        left = [number for number in left if SCORE_RANGE[0] <= number.value <= SCORE_RANGE[1]]
    return left[0] if len(left) == 1 and not other_scale else None


def _sketch(text: str) -> tuple[list[Number], str]:
    """The numbers of a text, and the text in lower case with "#" for each, "?" for words with digits, single spaces."""
    plain = _ENTITY.sub(_sign, text).translate(_PLAIN)
    plain = _TAG.sub(lambda tag: f" {tag[1]} " if tag[1] else " " * len(tag[0]), plain)  # the indices stay
    numbers, parts, end = [], [], 0
    for run in _RUN.finditer(plain):
        body = run[0].rstrip(".")  # the end of a sentence
        if not any("0" <= character <= "9" for character in body):
            continue
        found = _NUMBER.fullmatch(body) if len(body) <= MAX_NUMBER_LENGTH else None
        if found and math.isfinite(value := float(body.replace(",", "."))):  # "1e999" is none
            fraction = found[1] or found[2] or ""
            numbers.append(Number(run.start(), value, len(fraction.rstrip("0"))))
        parts += [plain[end : run.start()], "#" if found and math.isfinite(value) else "?"]
        end = run.start() + len(body)
        if len(numbers) > MAX_NUMBERS:
            return [], ""
    return numbers, re.sub(r"\s+", " ", "".join([*parts, plain[end:]])).lower()


def _sign(entity: re.Match) -> str:
    """What an entity stands for, as wide as it is; "&lt;3.7&gt;" has its signs beside the number."""
    width = len(entity[0])
    return (
        "<".rjust(width) if entity[1] else ">".ljust(width) if entity[2] else ("≤" if entity[3] else "≥").ljust(width)
    )


def _expressions(sketch: str, numbers: list[Number]) -> tuple[set[int], bool]:
    """The numbers that belong to an expression, and whether one of these is a scale other than ours."""
    place = {index: i for i, index in enumerate(m.start() for m in re.finditer("#", sketch))}

    def inside(match: re.Match) -> list[int]:
        return [place[index] for index in range(*match.span()) if index in place]

    def top(indices: list[int]) -> float:
        return max(numbers[i].value for i in indices)

    ranges: set[int] = set()
    shares: set[int] = set()
    other_scale = bool(_OTHER_TOP.search(sketch))
    for match in _RANGE.finditer(sketch):
        ranges |= set(ends := inside(match))
        named = match[1] or match[2]
        other_scale |= bool(named) and top(ends) != SCORE_RANGE[1]
    for match in _OTHER_RANGE.finditer(sketch):
        other_scale |= top(inside(match)) > SCORE_RANGE[1]
    dropped = set(ranges)
    for match in _SHARE.finditer(sketch):
        *before, end = inside(match)
        shares.add(end)
        dropped |= {end} if numbers[end].value == SCORE_RANGE[1] and not match[1] else {*before, end}
    for match in _TOP.finditer(sketch):
        tops = set(inside(match)) - ranges
        dropped |= tops
        other_scale |= any(numbers[i].value != SCORE_RANGE[1] for i in tops - shares)
    for match in _NO_SCORE.finditer(sketch):
        dropped |= set(inside(match))
    return dropped, other_scale
