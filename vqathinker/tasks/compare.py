"""Which of two clips is better, or are they similar? A word, and a score for each: `first; 3.42; 2.87`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from vqathinker.data import Sample
from vqathinker.data.traces import level
from vqathinker.messages import text_in, videos_in
from vqathinker.rewards import Agreement, Format, PairOrder, Preference, Rubric, parse_comparison
from vqathinker.rewards.distortion import degree, parse_distortions
from vqathinker.tasks.task import Answer, Row, Said, Task

QUESTION = (
    "You are comparing the quality of two videos. Which one is better, the first video or the second video, or are "
    "they similar?"
)
ASKED_FOR = (
    "Answer in three parts with semicolons between them: one of the words first, second, similar; the score of the "
    "first video; the score of the second video. The scores should be floats between 1 and 5, rounded to two decimal "
    "places, with 1 representing very poor quality and 5 representing excellent quality."
)
COLUMNS = ("better", "preference", "spread", "mos_first", "mos_second", "difference", "rank_difference")
"""What rewards and metrics are told of a pair, see `vqathinker.data.pairs_of`."""

VALUES = {"first": 1.0, "second": 0.0, "similar": 0.5}
"""A word as a number: how much better the first clip is said to be."""

_OPENINGS = ("I compare detail, artifacts and motion.", "I look at both videos, frame by frame.")
_VERDICTS = {
    "first": ("The first video is better.", "The first one looks better."),
    "second": ("The second video is better.", "The second one looks better."),
    "similar": ("Both are about as good.", "I see no clear difference."),
}


class Compare(Task):
    """Two clips in one prompt (after CP-LLM's pairs). Every pair comes in both orders, as two samples: what differs
    between their answers is a preference for a place, not for a clip."""

    name = "compare"
    metrics = ("compare_accuracy", "compare_unparsable", "compare_first_bias", "compare_consistency")
    num_clips = 2

    def text(self, sample: Sample) -> str:
        """The question, by default the task's own, and what is to be answered."""
        return f"{sample.question or QUESTION} {ASKED_FOR}"

    def columns(self, sample: Sample) -> dict[str, Any]:
        """What is known of the pair; nothing that is known of a single clip, which would be paid for."""
        return {name: sample.target.get(name) for name in COLUMNS}

    def rubric(self) -> Rubric:
        """Format, the right word, the order of both scores, and the agreement of word and scores."""
        return Rubric([Format(), Preference(), PairOrder(), Agreement()])

    def gold(self, sample: Sample, rng: np.random.Generator) -> str:
        """A templated trace that names what differs, where it is known, then the word and both MOS.

        Raises:
            ValueError: If a clip has no MOS.
        """
        target = sample.target
        first, second = target.get("mos_first"), target.get("mos_second")
        if first is None or second is None:
            raise ValueError(
                f"sample {sample.id!r}: there is no answer to learn, as a score is missing (mos_first={first}, "
                f"mos_second={second}). Label both clips, or leave the pair to GRPO, which needs their order only."
            )
        found = f"{rng.choice(_OPENINGS)} {_difference(target)} {rng.choice(_VERDICTS[target['better']])}"
        return f"<think>{found}</think><answer>{target['better']}; {first:.2f}; {second:.2f}</answer>"

    def parse(self, completion: Said, row: Row) -> Answer:
        """1 for `first`, 0 for `second`, 0.5 for `similar`, whatever the scores say; the status is that of
        `rewards.parse_comparison`."""
        found = parse_comparison(completion)
        return Answer(None if found.better is None else VALUES[found.better], found.status)

    def truth(self, row: Row) -> float:
        """The right word's number."""
        return VALUES.get(row.get("better") or "", math.nan)

    def measure(self, answers: Sequence[Said | None], rows: Sequence[Row]) -> dict[str, float]:
        """What answers are worth, as `Task.measure`.

        Returns:
            `compare_accuracy`: share of right words, answers without one counting as wrong. `compare_unparsable`: share
            of answers that are not a word and two scores in 1-5. `compare_first_bias`: share of `first` among the words
            less the share that is right; 0 is best. `compare_consistency`: share of pairs whose answers in both orders
            name the same clip, or neither; of those that have a word in both.
        """
        said = [(parse_comparison(a), row) for a, row in zip(answers, rows, strict=True) if a is not None]
        words = [(found.better, row["better"]) for found, row in said if row.get("better")]
        named = [(word, better) for word, better in words if word]
        return {
            "compare_accuracy": _mean([word == better for word, better in words]),
            "compare_unparsable": _mean([found.status != "ok" for found, _ in said]),
            "compare_first_bias": _mean([(word == "first") - (better == "first") for word, better in named]),
            "compare_consistency": _consistency([(found.better, row) for found, row in said if found.better]),
        }


class AccuracyAt(NamedTuple):
    """Accuracy of the pairs whose difference d has low <= |d| < high, and how many these are; NaN of none."""

    low: float
    high: float
    accuracy: float
    pairs: int


def accuracy_by_difference(
    answers: Sequence[Said | None], rows: Sequence[Row], edges: Sequence[float], by: str = "difference"
) -> list[AccuracyAt]:
    """How often the word is right, by how far apart the clips are.

    Args:
        answers: R completions; `None` where a clip could not be read, which is left out.
        rows: Their rows.
        edges: Rising bounds of the differences, >= 0.
        by: `"difference"`, in score units, or `"rank_difference"`, of the ranks of a ladder (CRF).

    Returns:
        One entry for each two neighbouring edges. Rows without this difference are in none.
    """
    right: dict[int, list[bool]] = {}
    for answer, row in zip(answers, rows, strict=True):
        if answer is not None and row.get(by) is not None:
            place = int(np.searchsorted(edges, abs(row[by]), side="right")) - 1
            right.setdefault(place, []).append(parse_comparison(answer).better == row["better"])
    found = [right.get(place, []) for place in range(len(edges) - 1)]
    return [AccuracyAt(*edge, _mean(own), len(own)) for edge, own in zip(pairwise(edges), found, strict=True)]


def _consistency(said: Sequence[tuple[str | None, Row]]) -> float:
    """Of pairs whose clips were shown in both orders, asked alike; mean over pairs of all combinations of answers."""
    pairs: dict[Any, dict[bool, list[str | None]]] = {}
    for word, row in said:
        first, second = videos_in(row["prompt"])
        if first == second:
            continue
        clip = {"first": first, "second": second}.get(word or "")
        key = (min(first, second), max(first, second), text_in(row["prompt"]))
        pairs.setdefault(key, {}).setdefault(first < second, []).append(clip)
    both = [product(orders[True], orders[False]) for orders in pairs.values() if len(orders) == 2]
    return _mean([_mean([one == other for one, other in combinations]) for combinations in both])


def _difference(target: dict[str, Any]) -> str:
    """What differs between the clips, in the words of the score traces."""
    known = [
        parse_distortions(target.get(f"kind_{clip}"), target.get(f"severity_{clip}"))
        for clip in VALUES
        if clip != "similar"
    ]
    if any(known):
        return f"The first video shows {_named(known[0])}, the second {_named(known[1])}."
    if target.get("rank_difference"):
        return f"The {'second' if target['rank_difference'] > 0 else 'first'} video is compressed harder."
    return f"The first video is {level(target['mos_first'])}, the second {level(target['mos_second'])}."


def _named(distortions: dict[str, float]) -> str:
    worst_first = sorted(distortions, key=lambda kind: -distortions[kind])
    named = [f"{degree(distortions[kind])} {kind.replace('_', ' ')}" for kind in worst_first]
    return " and ".join(named) or "no fault"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
