"""Key terms reward: does an answer in the policy's own words say what the reference says? Words are counted offline, by
no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from .parsing import answer_block, check_columns, text_of

_FUNCTION_WORDS = """
a an the this that these those it its they them their he she his her i we you your our my one ones
is are was were be been being am do does did done has have had having can could may might must shall should will
would seem seems appear appears
and or but so as if than then because while which who whom whose what when where how why there here
of in on at to from by for with into onto over under between during through about against along across within
some any all both each other another such also just only quite rather really very too much more most
"""
STOP_WORDS = frozenset([*_FUNCTION_WORDS.split(), "video", "videos", "clip", "clips", "footage"])
"""Words that tell nothing about quality. "no", "not" and "without" are none of them: "no blur" differs from "blur"."""
SPELLINGS = {"colour": "color", "grey": "gray", "artefact": "artifact", "centre": "center"}
SPELLINGS |= {f"{prefix}exposure": f"{prefix}expose" for prefix in ("", "over", "under")}
"""Beginnings of British words -> of American ones; and of "exposure", a fault's name, -> of its verb's forms."""
SUFFIXES = ("iness", "ness", "ing", "ion", "ed", "ly", "es", "s", "y", "e")
"""Endings that are cut, the first that fits, then a second one; three letters or more stay."""

_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")


def key_terms(text: str) -> frozenset[str]:
    """The terms of a text that count, each once.

    Unicode is folded (NFKC, case), words are runs of letters and numbers stay whole ("3.5"); `STOP_WORDS` are left out,
    British spellings become American, and endings are cut (`SUFFIXES`), so that "blurry", "blurred" and "blur" are one
    term. What is cut need not be a word: it only has to be the same in both texts.

    Example:
        >>> sorted(key_terms("The video is blurry, with strong colour noise."))
        ['blur', 'color', 'noi', 'strong']
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return frozenset(_stem(word) for word in words if word not in STOP_WORDS)


def key_term_f1(answer: str, reference: str) -> float | None:
    """F1 of an answer's key terms against those of a reference: 2 |A and R| / (|A| + |R|), over distinct terms.

    Args:
        answer: What was said.
        reference: What is right.

    Returns:
        In [0, 1]; 0 for an answer without key terms, an empty one among them. `None` if the reference has none.

    Example:
        >>> key_term_f1("Noisy and blurred", "There is noise.")
        0.6666666666666666
    """
    said, right = key_terms(answer), key_terms(reference)
    return 2 * len(said & right) / (len(said) + len(right)) if right else None


def said_in(completion: str | Sequence[dict[str, Any]]) -> str:
    """What stands in the last `<answer>` block, spaces around it cut; "" without one."""
    text = text_of(completion)
    block = answer_block(text, "last")
    return "" if block is None else text[slice(*block)].strip()


class KeyTerms:
    """Key terms reward as a TRL / ms-swift reward function: `key_term_f1` of the `<answer>` block.

    Args:
        name: Metric key.
    """

    floor = 0.0

    def __init__(self, name: str = "key_terms") -> None:
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        reference: Sequence[str | None] | None = None,
        log_metric: Callable[[str, float], Any] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N values in [0, 1]: 0.0 also without an answer; `None` for rows without a reference, or of one without terms.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            reference: N right answers; `None` entries, or none at all, for rows of other tasks.
            log_metric: TRL's hook; gets `key_terms_unanswered`, the share of these answers without an `<answer>` block
                that says something.
            columns: Not needed.

        Raises:
            ValueError: If the column has another length.
            TypeError: If the column is one value.
        """
        if reference is None:
            return [None] * len(completions)
        check_columns(completions, reference=reference)
        said = [
            said_in(completion) if right else None for completion, right in zip(completions, reference, strict=True)
        ]
        known = [text for text in said if text is not None]
        if log_metric is not None and known:
            log_metric("key_terms_unanswered", known.count("") / len(known))
        return [
            None if text is None else key_term_f1(text, right or "")
            for text, right in zip(said, reference, strict=True)
        ]

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has a reference with key terms."""
        return bool(key_terms(row.get("reference") or ""))


@lru_cache(maxsize=8192)
def _stem(word: str) -> str:
    """A word without its endings; numbers as they are."""
    for written, same in SPELLINGS.items():
        if word.startswith(written):
            word = same + word[len(written) :]
    for _ in range(2):
        ending = next((end for end in SUFFIXES if word.endswith(end) and len(word) - len(end) >= 3), "")
        word = word[: len(word) - len(ending)]
        if len(word) > 3 and ending and word[-1] == word[-2]:
            word = word[:-1]  # "blurr" of "blurry"
    return word
