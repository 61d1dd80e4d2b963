"""The options of a question: letters, lists at the end of a text, answers as letter or text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from vqathinker.rewards import choice
from vqathinker.rewards.answer_choice import LETTERS
from vqathinker.rewards.choice import choice_index, letter

_LINE = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[.)])\s*(\S.*?)\s*")


def check_options(options: Any) -> tuple[str, ...]:
    """The options, spaces around them cut.

    Args:
        options: Two to 26 texts, distinct with case aside.

    Raises:
        ValueError: If they are anything else.
    """
    if not isinstance(options, list | tuple) or not all(isinstance(text, str) and text.strip() for text in options):
        raise ValueError(f"options {options!r:.200} must be a list of non-empty strings; put numbers in quotes.")
    stripped = choice.check_options([text.strip() for text in options])
    if len({text.casefold() for text in stripped}) < len(stripped):
        raise ValueError(f"options {list(stripped)!r:.200} must differ in more than case; remove the duplicates.")
    return stripped


def options_in(question: str) -> tuple[str, tuple[str, ...]]:
    """A question without the lines of options at its end, and these.

    Args:
        question: A text that may end in lines "A. ...", "(A) ..." or "A) ...", lettered in order from A.

    Returns:
        The text before them and the options without letters; of fewer than two lines nothing is cut.
    """
    lines = question.strip().splitlines()
    options: list[tuple[str, str]] = []
    while lines and (found := _LINE.fullmatch(lines[-1])):
        options.insert(0, (found[1] or found[2], found[3]))
        lines.pop()
        while lines and not lines[-1].strip():
            lines.pop()
    if len(options) < 2 or "".join(name for name, _ in options) != LETTERS[: len(options)]:
        return question.strip(), ()
    return "\n".join(lines).strip(), tuple(text for _, text in options)


def letter_of(answer: Any, options: Sequence[str]) -> str:
    """The letter of the right option.

    Args:
        answer: Its letter ("B", "b", "B.", "(B)"), its text, or both ("B. Noise"), see `rewards.choice_index`.
        options: All options, in the order of their letters.

    Raises:
        ValueError: If it is neither, or is the letter of one option and the text of another.
    """
    if not isinstance(answer, str):
        raise ValueError(
            f"answer {answer!r:.80} must be a string: the letter or the text of one of {list(options)!r:.200}."
        )
    return letter(choice_index(answer, options))
