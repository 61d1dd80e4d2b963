"""Rewards for two clips in one prompt: which is better, and what is each worth? `first; 3.42; 2.87`."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from .answer_number import SCORE_RANGE
from .parsing import answer_block, check_columns, group_indices, text_of
from .ranking import normal_cdf

COMPARISON_WORDS = ("first", "second", "similar")
"""What an answer may say of which of two clips is better."""
SURE = 0.75
"""Probability from which on one clip is called the better one: the usual point of a just noticeable difference."""
NOTICEABLE = NormalDist().inv_cdf(SURE)
"""The difference of two MOS at which raters are so sure, in spreads of their difference: 0.674."""
EPS = 0.01
"""Square of a tenth of a score: where the order is sure, smaller leads pay in proportion (as `contrast.EPS`)."""
ROUNDING = 0.01
"""What writing two scores with two decimals can add to their difference, at most."""

_NUMBER = re.compile(r"[0-9]{1,8}(?:[.,][0-9]{1,8})?")


@dataclass(frozen=True)
class ParsedComparison:
    """What an answer about two clips says. Word and numbers are kept as they are read, also where they contradict.

    Attributes:
        better: `"first"`, `"second"` or `"similar"`; `None` where there is no such word.
        first: Score of the first clip, never clamped; `None` unless both numbers are there.
        second: That of the second clip, likewise.
        status: `"ok"`, or the first that holds of `"no_answer"` (no closed `<answer>` block), `"several"` (more than
            one), `"no_word"` (the block does not begin with one of the words and a semicolon), `"no_numbers"` (what
            follows is not two numbers with a semicolon between them) and `"out_of_range"` (one of them lies outside
            [1, 5]).
        start: Index of the word's first character in the text; `None` without a word.
    """

    better: str | None
    first: float | None
    second: float | None
    status: str
    start: int | None = field(default=None, repr=False, compare=False)

    @property
    def scores(self) -> tuple[float, float] | None:
        """Both scores, where both can be taken at face value."""
        if self.first is None or self.second is None or self.status == "out_of_range":
            return None
        return self.first, self.second


def parse_comparison(completion: str | Sequence[dict[str, Any]]) -> ParsedComparison:
    """The word and the two scores in the only `<answer>` block. What the reasoning says never counts.

    Case and spaces do not matter, and a decimal comma is a decimal point. There are no other words: neither "A" nor
    "the first one" is `first`.

    Args:
        completion: Text or messages, see `text_of`.

    Returns:
        A `ParsedComparison`. Linear in the length of the text.

    Example:
        >>> parse_comparison("<think>the second is blurred</think><answer>first; 3.42; 2.87</answer>")
        ParsedComparison(better='first', first=3.42, second=2.87, status='ok')
        >>> parse_comparison("<answer>second</answer>")
        ParsedComparison(better='second', first=None, second=None, status='no_numbers')
    """
    return _parse(text_of(completion))


@lru_cache(maxsize=8192)  # several rewards look at the same completions
def _parse(text: str) -> ParsedComparison:
    block = answer_block(text, "first")
    if block is None:
        return ParsedComparison(None, None, None, "no_answer")
    if answer_block(text, "last") != block:
        return ParsedComparison(None, None, None, "several")
    content = text[slice(*block)]
    word, *numbers = content.split(";")
    better = word.strip().lower()
    if better not in COMPARISON_WORDS:
        return ParsedComparison(None, None, None, "no_word")
    start = block[0] + len(word) - len(word.lstrip())
    texts = [number.strip() for number in numbers]
    if len(texts) != 2 or not all(map(_NUMBER.fullmatch, texts)):
        return ParsedComparison(better, None, None, "no_numbers", start)
    first, second = (float(number.replace(",", ".")) for number in texts)
    low, high = SCORE_RANGE
    known = low <= first <= high and low <= second <= high
    return ParsedComparison(better, first, second, "ok" if known else "out_of_range", start)


def comparison_word(preference: float) -> str:
    """The right word where the first clip is better with probability `preference`: one of the clips from `SURE` on."""
    return "first" if preference >= SURE else "second" if preference <= 1 - SURE else "similar"


def word_reward(said: str | None, better: str, preference: float | None = None) -> float:
    """1 for the right word, part of it for one that the label is not sure against, else 0.

    With P the probability that the first clip is better, a label leans towards one clip by |2 P - 1|. Where one clip is
    the better one, `similar` earns 1 - |2 P - 1|; where they are similar, the clip that the label leans to earns
    |2 P - 1|. Without P, and where it is 0 or 1, only the right word earns anything.

    Args:
        said: The answer's word, if it has one.
        better: The right one.
        preference: P.

    Returns:
        Reward in [0, 1].
    """
    if said == better:
        return 1.0
    if said is None or preference is None:
        return 0.0
    lean = 2 * preference - 1
    if said == "similar":
        return 1 - abs(lean)
    return max(0.0, lean if said == "first" else -lean) if better == "similar" else 0.0


def pair_order_fidelity(
    first: Sequence[float], second: Sequence[float], preference: float, spread: float | None = None, eps: float = EPS
) -> list[float]:
    """Fidelity of the order of both scores of each answer (Thurstone, as VQAThinker Eq. 6 ranks videos).

    Of K answers with scores a and b, answer k has p = Phi((a_k - b_k) / sqrt(var(a) + var(b) + noise)) and earns
    sqrt(p P) + sqrt((1 - p) (1 - P)), where P is the probability that the first clip is better. The noise is the square
    of the label's own spread, so that MOS that differ as the label's do earn 1; `eps` where it has none.

    Args:
        first: K >= 1 scores of the first clip; the variance of a single one is 0.
        second: Those of the second clip.
        preference: P, 0.5 where neither is better.
        spread: Standard deviation of the difference of two ratings, > 0, of which P comes.
        eps: Least noise, > 0, in squared score units.

    Returns:
        K rewards in [0, 1].
    """
    variance = sum(float(np.var(scores, ddof=1)) for scores in (first, second)) if len(first) > 1 else 0.0
    noise = max((spread or 0.0) ** 2, eps)
    p = normal_cdf((np.asarray(first) - np.asarray(second)) / math.sqrt(variance + noise))
    return (np.sqrt(p * preference) + np.sqrt((1 - p) * (1 - preference))).tolist()


@dataclass(frozen=True)
class Pair:
    """What is known of two clips: a row's columns `better`, `preference` and `spread`, see `PairWord`."""

    better: str
    preference: float | None
    spread: float | None

    def __post_init__(self) -> None:
        if self.better not in COMPARISON_WORDS:
            raise ValueError(
                f"better={self.better!r}: must be one of {COMPARISON_WORDS}, or None for a row of another task. Rename "
                "the column if it means something else."
            )
        if self.preference is not None:
            against = {"first": self.preference < 0.5, "second": self.preference > 0.5}
            if not 0 <= self.preference <= 1 or against.get(self.better):
                raise ValueError(
                    f"preference={self.preference} with better={self.better!r}: it must be the probability, from 0 to "
                    "1, that the first clip is better. Correct one of them, or leave the preference None."
                )
        if self.spread is not None and not self.spread > 0:
            raise ValueError(f"spread={self.spread}: must be above 0, or None where the order is sure.")

    @property
    def target(self) -> float:
        """P, that of the word alone where it is not known."""
        return self.preference if self.preference is not None else {"first": 1.0, "second": 0.0}.get(self.better, 0.5)


def _pairs(
    completions: Sequence[Any],
    better: Sequence[str | None] | None,
    preference: Sequence[float | None] | None,
    spread: Sequence[float | None] | None,
) -> list[Pair | None]:
    """What is known of each row's clips; `None` for rows of other tasks."""
    given = {"better": better, "preference": preference, "spread": spread}
    check_columns(completions, **{name: column for name, column in given.items() if column is not None})
    nothing = [None] * len(completions)
    rows = zip(better or nothing, preference or nothing, spread or nothing, strict=True)
    return [None if word is None else Pair(word, p, s) for word, p, s in rows]


class _PairReward:
    """What the rewards for comparisons share."""

    floor = 0.0

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Whether the row shows two clips of which it is known which is better."""
        return row.get("better") is not None


class PairWord(_PairReward):
    """Word reward as a TRL / ms-swift reward function: does the answer name the better clip? See `word_reward`.

    Args:
        partial: False: only the right word earns anything, whatever the label's probability. That is the preference
            reward of VQ-Insight (its Eq. 7) and of Q-Insight, whose labels are never `similar`.
        name: Metric key.
    """

    def __init__(self, partial: bool = True, name: str = "pair_word") -> None:
        self.partial = partial
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        better: Sequence[str | None] | None = None,
        preference: Sequence[float | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N rewards in [0, 1], 0 also where there is no word; `None` for rows without `better`.

        Args:
            completions: N texts or message lists.
            mos: Not needed.
            better: N words of `COMPARISON_WORDS`; `None` entries, or none at all, for rows of other tasks.
            preference: N probabilities that the first clip is better; `None` where only the word is known.
            columns: Not needed.

        Raises:
            ValueError: If a column has another length, or a row's entries are none of these.
        """
        return [
            None
            if pair is None
            else word_reward(
                parse_comparison(completion).better, pair.better, pair.preference if self.partial else None
            )
            for completion, pair in zip(completions, _pairs(completions, better, preference, None), strict=True)
        ]


class PairOrder(_PairReward):
    """Order of both scores as a TRL / ms-swift reward function, see `pair_order_fidelity`.

    Args:
        eps: Least noise, in squared score units.
        name: Metric key.

    Raises:
        ValueError: If `eps` is not positive.
    """

    def __init__(self, eps: float = EPS, name: str = "pair_order") -> None:
        if not eps > 0:
            raise ValueError(f"eps={eps}: must be positive.")
        self.eps = eps
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        video_id: Sequence[Hashable] | None = None,
        better: Sequence[str | None] | None = None,
        preference: Sequence[float | None] | None = None,
        spread: Sequence[float | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N rewards in [0, 1]; `None` for rows without `better`, and where an answer has no two scores in [1, 5].

        Args:
            completions: N texts or message lists, K of each pair in any order.
            mos: Not needed.
            video_id: N group names: one for the K answers to a pair of clips in one order.
            better: As `PairWord`, likewise `preference`.
            spread: N standard deviations of the difference of two ratings; `None` where the order is sure.
            columns: Not needed.

        Raises:
            ValueError: As `PairWord`, or if `video_id` is missing.
        """
        pairs = _pairs(completions, better, preference, spread)
        rewards: list[float | None] = [None] * len(pairs)
        if not any(pairs):
            return rewards
        check_columns(completions, video_id=video_id)
        scores = [parse_comparison(completion).scores for completion in completions]
        for members in group_indices(video_id or ()).values():
            pair = pairs[members[0]]
            known = {i: both for i in members if (both := scores[i]) is not None}
            if pair is None or not known:
                continue
            first, second = zip(*known.values(), strict=True)
            values = pair_order_fidelity(first, second, pair.target, pair.spread, self.eps)
            for i, value in zip(known, values, strict=True):
                rewards[i] = value
        return rewards


class PairAgreement(_PairReward):
    """Agreement of word and scores as a TRL / ms-swift reward function: 1 if the answer's word says what its own two
    scores say, else 0, whether or not it is right.

    `first` needs the higher score for the first clip, `second` the lower one. `similar` needs scores that differ by
    less than what is noticeable at the label's spread (`NOTICEABLE` x `spread`); differences that come of writing both
    with two decimals are allowed.

    Args:
        similar: Largest difference for `similar` where the label has no spread, in score units.
        name: Metric key.

    Raises:
        ValueError: If `similar` is negative.
    """

    def __init__(self, similar: float = 0.25, name: str = "pair_agreement") -> None:
        if not similar >= 0:
            raise ValueError(f"similar={similar}: must be at least 0.")
        self.similar = similar
        self.__name__ = name

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        *,
        better: Sequence[str | None] | None = None,
        spread: Sequence[float | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """N values in {0, 1}; `None` for rows without `better`, and where an answer has no two scores in [1, 5].

        Arguments and errors as `PairOrder`.
        """
        values: list[float | None] = []
        for completion, pair in zip(completions, _pairs(completions, better, None, spread), strict=True):
            found = parse_comparison(completion)
            if pair is None or found.better is None or found.scores is None:
                values.append(None)
                continue
            lead = found.scores[0] - found.scores[1]
            limit = self.similar if pair.spread is None else NOTICEABLE * pair.spread
            agrees = {"first": lead > 0, "second": lead < 0, "similar": abs(lead) < limit + ROUNDING - 1e-9}
            values.append(float(agrees[found.better]))
        return values
