"""Which of two clips is better: both orders, and the probabilities of the answer's word."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from vqathinker.data import Sample
from vqathinker.policy import ClipInput
from vqathinker.rewards.comparison import COMPARISON_WORDS, ParsedComparison, comparison_word, parse_comparison
from vqathinker.scoring.asking import ask_prompts, check_lengths, loaded_chunks
from vqathinker.scoring.predict import reason_unreadable
from vqathinker.scoring.readouts import tokens_before, word_probabilities

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import QualityScorer

NOT_LEARNED = (
    "this policy has not learned to compare: its answers are not of the form `first; 3.42; 2.87`. Train one on the "
    "task 'compare', see docs/comparing.md"
)


@dataclass(frozen=True)
class QualityComparison:
    """The policy's judgement of two clips, shown in both orders, one greedy answer each.

    Attributes:
        first: Path; "" for frames in memory.
        second: Path of the other.
        better: The word for the preference, as in labels: `"first"` from 0.75 on, `"second"` up to 0.25, else
            `"similar"`; "" without a preference.
        preference: How probably `first` is the better one, in [0, 1]: P(first) + P(similar) / 2, mean over both orders;
            NaN unless both answers have a word. `compare(b, a)` gives exactly 1 minus that of `compare(a, b)`.
        orders: The same of each order: shown first, shown second. Far apart, the policy prefers a place, not a clip.
        probabilities: Of the words of `COMPARISON_WORDS` about this pair, mean over both orders; none without a
            preference.
        scores: Of first and second, 1-5, the mean over both answers; NaN where an answer has no two scores in 1-5.
        consistent: Whether the words of both answers say the same: the same clip, or `similar` twice.
        status: `"ok"`, or why there is no preference or are no scores: that of the first answer that is not, see
            `rewards.parse_comparison`, or `"unreadable"`.
        answers: Whole texts: `first` shown first, then shown second.
        error: Which clip cannot be read and why, else "".
    """

    first: str
    second: str
    better: str
    preference: float
    orders: tuple[float, float]
    probabilities: tuple[float, ...]
    scores: tuple[float, float]
    consistent: bool
    status: str
    answers: tuple[str, ...] = ()
    error: str = ""

    @property
    def parsed(self) -> bool:
        """Whether there is a preference."""
        return not math.isnan(self.preference)

    @property
    def reasoning(self) -> tuple[str, ...]:
        """Texts of the answers' `<think>` blocks, "" for one without."""
        return tuple(text.partition("<think>")[2].partition("</think>")[0].strip() for text in self.answers)


def pair_sample(first: str, second: str) -> Sample:
    """Two clips as the task `compare` asks about them."""
    return Sample("", "compare", (first, second))


def pair_of(sample: Sample) -> tuple[str, str]:
    """Its two clips."""
    first, second = sample.clips
    return first, second


def compare_pairs(scorer: QualityScorer, pairs: Sequence[tuple[str, str]]) -> Iterator[list[QualityComparison]]:
    """Compare files, batch by batch and in order; the next batch is decoded meanwhile.

    A batch is at most `scorer.batch_size` clips (or one pair). Each is decoded and encoded once for all its pairs in
    the batch: put pairs that share a clip next to each other.

    Args:
        scorer: Compares.
        pairs: Paths.

    Raises:
        ValueError: If a prompt is longer than the engine takes, before anything is decoded.
    """
    samples = [pair_sample(first, second) for first, second in pairs]
    check_lengths(scorer, samples)
    for chunk, clips, skipped in loaded_chunks(scorer, samples):
        shown = [pair_of(sample) for sample in chunk if clips.keys() >= {*sample.clips}]
        known = dict(zip(shown, compare_clips(scorer, shown, clips), strict=True))
        yield [known.get(pair_of(sample)) or _unreadable(sample, skipped) for sample in chunk]


@torch.no_grad()
def compare_clips(
    scorer: QualityScorer, pairs: Sequence[tuple[str, str]], clips: Mapping[str, ClipInput]
) -> list[QualityComparison]:
    """Compare decoded clips. What is said of a pair does not depend on the other pairs, nor on their order.

    Args:
        scorer: Compares.
        pairs: Names of two clips each, in any number: the engine makes batches.
        clips: Name -> clip.

    Raises:
        ValueError: If a prompt is longer than the engine takes.
    """
    samples = [pair_sample(*order) for pair in pairs for order in (pair, (pair[1], pair[0]))]
    prompts, seeds = ask_prompts(scorer, samples, clips)
    sampling = replace(scorer.sampling, temperature=0.0)
    drawn = scorer.answering_engine().generate(prompts, 1, sampling, seeds) if prompts else []
    said = [_said(scorer, prompt, one.token_ids) for prompt, [one] in zip(prompts, drawn, strict=True)]
    return [_joined(pair, *said[2 * i : 2 * i + 2]) for i, pair in enumerate(pairs)]


@dataclass(frozen=True)
class _Said:
    """One order's answer: text, what it says, and the probabilities of `COMPARISON_WORDS`, `None` without a word."""

    text: str
    parsed: ParsedComparison
    probabilities: tuple[float, ...] | None

    @property
    def preference(self) -> float:
        """How probably the clip that is shown first is better."""
        first, _, similar = self.probabilities or (math.nan,) * 3
        return first + similar / 2


def _said(scorer: QualityScorer, prompt: torch.Tensor, answer: Sequence[int]) -> _Said:
    """What an answer says, and how sure of its word the policy was, behind the reasoning given.

    The three words are put where the answer has its own, in its case; of a word of several tokens the product counts.
    """
    tokenizer = scorer.processor.tokenizer
    text = tokenizer.decode(answer, skip_special_tokens=True)
    whole = tokenizer.decode(answer)
    parsed = parse_comparison(whole)
    if parsed.better is None or parsed.start is None:
        return _Said(text, parsed, None)
    prefix = tokens_before(tokenizer, answer, parsed.start)
    between = whole[len(tokenizer.decode(prefix)) : parsed.start]  # a token may hold a space and the word
    written = whole[parsed.start : parsed.start + len(parsed.better)]
    words = [between + _in_case_of(written, word) for word in COMPARISON_WORDS]
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    return _Said(text, parsed, tuple(word_probabilities(scorer.policy, prompt, prefix, ids).tolist()))


def _in_case_of(written: str, word: str) -> str:
    return word.upper() if written.isupper() else word.capitalize() if written[0].isupper() else word


def _joined(pair: tuple[str, str], there: _Said, back: _Said) -> QualityComparison:
    """Both orders' answers as one, about the pair as it is given."""
    preference, better = math.nan, ""
    probabilities: tuple[float, ...] = ()
    if there.probabilities and back.probabilities:
        preference = _mean_preference(there.preference, back.preference)
        both = zip(there.probabilities, _swapped(back.probabilities), strict=True)
        probabilities = tuple((own + other) / 2 for own, other in both)
        better = comparison_word(preference)
    words = [there.parsed.better, {"first": "second", "second": "first"}.get(back.parsed.better or "", "similar")]
    status = next((said.parsed.status for said in (there, back) if said.parsed.status != "ok"), "ok")
    return QualityComparison(
        *pair,
        better=better,
        preference=preference,
        orders=(there.preference, 1 - back.preference),
        probabilities=probabilities,
        scores=_mean_scores(there.parsed, back.parsed),
        consistent=bool(better) and words[0] == words[1],
        status=status,
        answers=(there.text, back.text),
    )


def _swapped(probabilities: Sequence[float]) -> tuple[float, ...]:
    """Those of the pair in the other order."""
    first, second, similar = probabilities
    return second, first, similar


def _mean_preference(there: float, back: float) -> float:
    """Mean of P(shown first is better) there, and 1 minus it of the other order; swapped it is 1 minus this, exactly.

    Between 0.5 and 1 floating-point numbers are so spaced that 1 - p and 1 - (1 - p) are not rounded.
    """
    of_the_better = 0.5 + abs(there - back) / 2
    return of_the_better if there >= back else 1 - of_the_better


def _mean_scores(there: ParsedComparison, back: ParsedComparison) -> tuple[float, float]:
    if there.scores is None or back.scores is None:
        return math.nan, math.nan
    return fmean([there.scores[0], back.scores[1]]), fmean([there.scores[1], back.scores[0]])


def _unreadable(sample: Sample, skipped: Mapping[str, str]) -> QualityComparison:
    nothing = (math.nan, math.nan)
    error = reason_unreadable(sample.clips, skipped)
    return QualityComparison(*pair_of(sample), "", math.nan, nothing, (), nothing, False, "unreadable", error=error)
