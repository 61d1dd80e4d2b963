"""Choice reward: is the option that an answer names the right one? Questions with options, yes/no among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .answer_choice import LETTERS, folded, letter_index, named_in
from .parsing import answer_block, check_columns, check_which, text_of


@dataclass(frozen=True)
class ParsedChoice:
    """Which option an answer names.

    Attributes:
        index: Of the option, from 0; `None` unless `status` is `"ok"`.
        status: `"ok"`, `"no_answer"` (no closed `<answer>` block), `"no_choice"` (neither a letter nor the text of an
            option in it), `"several"` (two letters, or without a letter the texts of two options), `"out_of_range"` (a
            letter beyond the options) or `"contradiction"` (a letter with the text of another option).
    """

    index: int | None
    status: str


def letter(index: int) -> str:
    """The letter of an option: 0 -> "A", 25 -> "Z".

    Raises:
        ValueError: If there is none.
    """
    if not 0 <= index < len(LETTERS):
        raise ValueError(f"index={index}: options are lettered A to Z, so it must lie in 0-25.")
    return LETTERS[index]


def parse_choice(
    completion: str | Sequence[dict[str, Any]], options: Sequence[str], which: str = "last"
) -> ParsedChoice:
    """The option named inside an `<answer>` block. What the reasoning names never counts.

    Args:
        completion: Text or messages, see `text_of`.
        options: 2 to 26 texts, e.g. `["Yes", "No"]`.
        which: `"last"` or `"first"` block.

    Returns:
        A `ParsedChoice`. Counted are an option's letter ("B", "(b)", "**B**", "B. blur", "Option B", "The answer is B")
        and its own text, if no other option has the same; case, punctuation and spaces do not matter. "blur" in "motion
        blur" is no answer of its own where both are options, and "A" in "A blurry clip" is no letter. Negated texts
        ("not blur") do not count. Linear in the length of the text.

    Raises:
        ValueError: If `which` is neither, or there are too few or too many options.
        TypeError: If `options` is no list of texts.

    Example:
        >>> parse_choice("<think>soft</think><answer>B. blur</answer>", ["noise", "blur", "motion blur"])
        ParsedChoice(index=1, status='ok')
        >>> parse_choice("<answer>A. blur</answer>", ["noise", "blur"])
        ParsedChoice(index=None, status='contradiction')
    """
    check_which(which)
    return _parse(text_of(completion), check_options(options), which)


@lru_cache(maxsize=8192)  # rewards, counters and metrics look at the same completions
def _parse(text: str, options: tuple[str, ...], which: str) -> ParsedChoice:
    block = answer_block(text, which)
    if block is None:
        return ParsedChoice(None, "no_answer")
    letters, texts, distinct = named_in(text[slice(*block)], [folded(option) for option in options])
    if len(letters) > 1 or (not letters and distinct > 1):
        return ParsedChoice(None, "several")
    if not letters:
        return ParsedChoice(min(texts), "ok") if len(texts) == 1 else ParsedChoice(None, "no_choice")
    [index] = letters
    if index >= len(options):
        return ParsedChoice(None, "out_of_range")
    if texts and index not in texts:
        return ParsedChoice(None, "contradiction")
    return ParsedChoice(index, "ok")


def check_options(options: Sequence[str]) -> tuple[str, ...]:
    """A question's options, as a tuple.

    Raises:
        TypeError: If it is one text, or not all are texts.
        ValueError: If there are not 2 to 26, or one is empty.
    """
    if isinstance(options, str) or not all(isinstance(option, str) for option in options):
        raise TypeError(f"options={options!r}: must be a list of strings, e.g. ['Yes', 'No'].")
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"options={list(options)}: a question needs 2 to 26 options, lettered A to Z.")
    if not all(option.strip() for option in options):
        raise ValueError(f"options={list(options)}: an option is empty. Give every option a text, or leave it out.")
    return tuple(options)


def choice_index(answer: str, options: Sequence[str]) -> int:
    """Index of the right option.

    Args:
        answer: Its letter ("B"), its text ("blur"), or both ("B. blur"); case, punctuation and spaces do not matter.
        options: 2 to 26 texts.

    Raises:
        ValueError: If the answer is none of these, several options have this text, or letter and text disagree, as
            "B" does where another option than B is called "B".
        TypeError: If `answer` is no text, or `options` no list of texts.

    Example:
        >>> choice_index("b", ["noise", "blur"]), choice_index("Noise", ["noise", "blur"])
        (1, 0)
    """
    options = check_options(options)
    where = f"answer={answer!r} with options={list(options)}"
    if not isinstance(answer, str):
        raise TypeError(f"{where}: the answer must be a string: an option's letter (0 is 'A') or its text.")
    words, texts = folded(answer), [folded(option) for option in options]
    index = letter_index(words[0]) if words else None
    if index is not None and (index >= len(options) or words[1:] not in ((), *texts)):
        index = None  # "A blurry clip"
    named = [i for i, text in enumerate(texts) if text and text == words]
    if index is not None and not named:
        named = [i for i, text in enumerate(texts) if text and text == words[1:]] or [index]
    if not named:
        raise ValueError(
            f"{where}: this is neither an option's letter nor its text. Give a letter, A to "
            f"{letter(len(options) - 1)}, or the text of one option."
        )
    if index is None and len(named) > 1:
        raise ValueError(f"{where}: several options have this text. Give the letter.")
    if index is not None and index not in named:
        raise ValueError(
            f"{where}: the letter means {options[index]!r}, the text {options[named[0]]!r}. Correct the answer, or "
            "reword any option whose text reads like another option's letter."
        )
    return named[0] if index is None else index


class Choice:
    """Choice reward as a TRL / ms-swift reward function: 1.0 for the right option, else 0.0.

    Args:
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, name: str = "choice") -> None:
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        answer: Sequence[str | None] | None = None,
        options: Sequence[Sequence[str] | None] | None = None,
        log_metric: Callable[[str, float], Any] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N values in {0, 1}: 0.0 also where no option is named; `None` for rows without options or answer.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            answer: N right answers, see `choice_index`; `None` entries, or none at all, for rows of other tasks.
            options: N lists of 2 to 26 texts, alike.
            log_metric: TRL's hook; gets `choice_unparsable`, the share of the answers to questions with options that
                name none of them, and `choice_letter_A` and so on, the share that names the option of each letter.
            columns: Not needed.

        Raises:
            ValueError: If a column has another length, or a row's answer is none of its options.
            TypeError: If a column is one value, or a row's options are no list of texts.
        """
        check_columns(completions, **{k: v for k, v in {"answer": answer, "options": options}.items() if v is not None})
        if answer is None or options is None:
            return [None] * len(completions)
        values: list[float | None] = []
        named: list[int | None] = []
        letters = 0
        for completion, right, own in zip(completions, answer, options, strict=True):
            if not _is_question(right, own):
                values.append(None)
                continue
            found = parse_choice(completion, own)  # type: ignore[arg-type]  # `_is_question` has looked
            values.append(float(found.index == choice_index(right, own)))  # type: ignore[arg-type]  # likewise
            named.append(found.index)
            letters = max(letters, len(own or ()))
        if log_metric is not None and named:
            log_metric("choice_unparsable", named.count(None) / len(named))
            for index in range(letters):
                log_metric(f"choice_letter_{letter(index)}", named.count(index) / len(named))
        return values

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row is a question with options and a known answer."""
        return _is_question(row.get("answer"), row.get("options"))


def _is_question(answer: Any, options: Any) -> bool:
    """Tables of several tasks fill the cells of other tasks with `None`, or with empty lists and texts."""
    return answer is not None and answer != "" and options is not None and len(options) > 0
