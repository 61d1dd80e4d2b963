"""Which of a question's options an answer names, by its letter or by its text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Numbers with their sign and decimals, words without underscores, and the signs that tell "> 3 %" from "< 3". Every
# alternative that fails leaves its characters to a later one as a whole: linear in the text.
_WORD = re.compile(r"(?:(?<!\w)[-+\u2212])?\d+(?:[.,]\d+)+|(?<!\w)[-+\u2212]\d+|[^\W_]+|%|[<>\u2264\u2265](?=\s*\d)")
_NEGATIONS = {"not", "no", "neither", "nor", "never", "without"}
_ARTICLES = {"a", "an", "the"}
_AFTER_LABEL = {"and", "or", "nor", "because", "since", "as", "is", "was"}  # words that no article stands before
_OPENING, _CLOSING = ">([{*\"'`$\u201c\u2018\uff08\u3010", "<)]}*\"'`$\u201d\u2019\uff09\u3011"
_JOINING = ("-", "'", "\u2019", ".")  # "B-frames", "it's", "e.g."
_DASHES = ("-", "\u2013", "\u2014", ":", "/", "|", "=", "->", "\u2192", "&")


class Word(NamedTuple):
    """A word of a text, in lower case, as it is written, and what stands between it and its neighbours."""

    folded: str
    written: str
    before: str
    after: str


class Named(NamedTuple):
    """What an answer names.

    Attributes:
        letters: Indices of the letters that stand for an option, some possibly beyond the options.
        texts: Indices of the options whose text it holds; equal options all.
        distinct: How many different texts these are.
    """

    letters: set[int]
    texts: set[int]
    distinct: int


def words_of(text: str) -> list[Word]:
    """The words of a text in order, linear in its length."""
    matches = list(_WORD.finditer(text))
    ends = [0, *(match.end() for match in matches)]
    starts = [*(match.start() for match in matches), len(text)]
    gaps = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    return [Word(m[0].casefold(), m[0], gaps[i], gaps[i + 1]) for i, m in enumerate(matches)]


def folded(text: str) -> tuple[str, ...]:
    """A text's words in lower case; equal for texts that differ in case, punctuation and spaces only."""
    return tuple(word.folded for word in words_of(text))


def letter_index(word: str) -> int | None:
    """0 for "A" or "a", 25 for "Z" or "z"; `None` for anything else."""
    return LETTERS.index(word.upper()) if len(word) == 1 and word.isascii() and word.isalpha() else None


def named_in(answer: str, options: Sequence[tuple[str, ...]]) -> Named:
    """Letters and option texts in an answer.

    A text inside a longer one does not count ("blur" in "motion blur"), nor does a letter inside a text ("Plan B"), nor
    what is negated ("not blur").

    Args:
        answer: What stands in the answer block.
        options: Each option's words, see `folded`.
    """
    words = words_of(answer)
    spans = _outermost(_occurrences(words, options))
    inside = {place for start, end, _ in spans if end - start > 1 for place in range(start, end)}
    letters = {
        index
        for place, word in enumerate(words)
        if (index := letter_index(word.folded)) is not None
        and place not in inside
        and not _negated(words, place)
        and _is_label(words, place, index < len(options))
    }
    texts = {index for start, _, index in spans if not _negated(words, start)}
    return Named(letters, texts, len({options[index] for index in texts}))


def _occurrences(words: Sequence[Word], options: Sequence[tuple[str, ...]]) -> list[tuple[int, int, int]]:
    """(first word, word after the last, option) wherever an option's text stands."""
    found = []
    whole = tuple(word.folded for word in words)
    by_first: dict[str, list[int]] = {}
    for index, option in enumerate(options):
        if option:
            by_first.setdefault(option[0], []).append(index)
    for start, first in enumerate(whole):
        for index in by_first.get(first, ()):
            end = start + len(options[index])
            # An option that is itself one letter must be the whole answer: the "a" of "a blurry clip" is none.
            is_letter = options[index] == (first,) and letter_index(first) is not None
            if whole[start:end] == options[index] and (not is_letter or len(whole) == 1):
                found.append((start, end, index))
    return found


def _outermost(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Spans that lie in no longer one; of equal ones all."""
    kept: list[tuple[int, int, int]] = []
    furthest = -1
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if span[1] > furthest or (kept and span[:2] == kept[-1][:2]):
            kept.append(span)
            furthest = span[1]
    return kept


def _negated(words: Sequence[Word], place: int) -> bool:
    """Whether "not", "no" or the like stands directly before, an article between them aside."""
    if place and words[place - 1].folded in _ARTICLES and not words[place - 1].after.strip():
        place -= 1
    if not place or words[place - 1].after.strip():
        return False
    previous = words[place - 1]
    return previous.folded in _NEGATIONS or (previous.folded == "t" and previous.before in ("'", "\u2019"))  # "isn't"


def _is_label(words: Sequence[Word], place: int, exists: bool) -> bool:
    """Whether a single letter stands for an option, rather than being an article, a pronoun, a unit or part of a word.

    Args:
        words: Of the answer.
        place: Of the letter.
        exists: Whether the question has an option of this letter; if not, it counts only where it must mean one.
    """
    word, first, last = words[place], place == 0, place == len(words) - 1
    if first and last:
        return True
    if not _stands_alone(words, place):
        return False
    if _enclosed(word) or _after(words, place, ("option", "letter")):
        return True
    if word.folded == "i":
        return first and word.after[0] in ".):]"
    ends = last or _ends(word.after) or words[place + 1].folded in _AFTER_LABEL
    if word.folded == "a" and not ends:
        return False
    return (first and ends) or _after(words, place, ("answer", "choice", "option")) or (exists and word.written != "a")


def _stands_alone(words: Sequence[Word], place: int) -> bool:
    """Not so the letters of "1.5s", "B-frames", "it's", "e.g." and "<b>"."""
    word = words[place]
    if word.before.endswith(("<", "</")) and word.after.startswith(">"):
        return False
    if place and word.before in ("", *_JOINING):
        return False
    if place == len(words) - 1:
        return True
    next_is_letter = len(words[place + 1].folded) == 1
    return word.after not in ("", *_JOINING) or (word.after == "." and not next_is_letter)


def _ends(gap: str) -> bool:
    """Whether what follows a letter sets it apart: "B. blur", "B - blur", but not "A (slightly) blurry clip"."""
    return not gap.startswith((" ", "\t")) or "\n" in gap or gap.strip() in _DASHES


def _enclosed(word: Word) -> bool:
    return word.before[-1:] in tuple(_OPENING) and word.after[:1] in tuple(_CLOSING)


def _after(words: Sequence[Word], place: int, announcing: Sequence[str]) -> bool:
    """Whether one of some words stands before, an "is" between them aside."""
    if place and words[place - 1].folded == "is":
        place -= 1
    return place > 0 and words[place - 1].folded in announcing
