"""How well questions with options are answered: accuracy, what guessing gives, yes/no, rotations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from vqathinker.metrics.correlation import bootstrap_interval
from vqathinker.rewards.answer_choice import folded
from vqathinker.rewards.choice import letter

YES_NO = (("no",), ("yes",))
"""Words of the options of a yes/no question, sorted."""


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers. NaN where there is none.

    Attributes:
        value: In [0, 1].
        low: Low end of the 95 % Wilson interval, over questions.
        high: High end.
        count: Number of questions.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Majority:
    """The accuracy of giving one and the same answer to all questions of a type.

    Attributes:
        accuracy: In [0, 1].
        answer: The most frequent right answer, the first of equally frequent ones.
        kind: "text" where all questions of the type have the same options, in any order; else "letter".
    """

    accuracy: float
    answer: str
    kind: str


@dataclass(frozen=True)
class YesNo:
    """How well "Yes" and "No" are told apart. NaN where undefined.

    Attributes:
        balanced_accuracy: Mean of the accuracies among the questions to answer with "Yes", and with "No".
        f1: Of "Yes": 2 TP / (2 TP + FP + FN).
        mcc: Matthews correlation coefficient in [-1, 1].
        count: Number of questions.
    """

    balanced_accuracy: float
    f1: float
    mcc: float
    count: int


@dataclass(frozen=True)
class ChoiceSummary:
    """How well questions with options are answered, and what constant and random answers reach on the same questions.

    Attributes:
        accuracy: Over all questions; an answer that names no option is wrong.
        unparsable: Share of the answers that name no option.
        by_type: Type -> accuracy.
        by_tag: Tag -> accuracy over the questions that have it.
        majority: Accuracy of the most frequent right answer of each type.
        majority_by_type: Type -> this answer and its accuracy.
        majority_by_tag: Tag -> accuracy of the most frequent right answer of each type among its questions.
        random: Expected accuracy of guessing, the mean of 1 / number of options.
        random_by_type: Type -> the same.
        random_by_tag: Tag -> the same.
        yes_no: Type -> balanced accuracy, F1 and MCC, of the types whose options are "Yes" and "No".
    """

    accuracy: Accuracy
    unparsable: float
    by_type: dict[str, Accuracy]
    by_tag: dict[str, Accuracy]
    majority: float
    majority_by_type: dict[str, Majority]
    majority_by_tag: dict[str, float]
    random: float
    random_by_type: dict[str, float]
    random_by_tag: dict[str, float]
    yes_no: dict[str, YesNo] = field(default_factory=dict)


def accuracy(right: Sequence[float]) -> Accuracy:
    """Share of right answers with its 95 % Wilson interval (Wilson 1927), in which half a right answer counts as half.

    The interval takes questions as independent; several about one clip resemble each other, which makes it too narrow.

    Args:
        right: N truth values, or numbers in [0, 1].
    """
    count = len(right)
    if not count:
        return Accuracy(math.nan, math.nan, math.nan, 0)
    value, z = float(sum(right)) / count, float(stats.norm.ppf(0.975))
    centre = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    width = z / (1 + z**2 / count) * math.sqrt(value * (1 - value) / count + z**2 / (4 * count**2))
    low, high = centre - width if value else 0.0, centre + width if value < 1 else 1.0  # not by rounding beside them
    return Accuracy(value, low, high, count)


def share_interval(right: Sequence[bool], clips: Sequence[Hashable], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a share: Wilson's, or, where clips have several questions, also the bootstrap's that draws whole
    clips, whichever reaches further. The bootstrap alone has no width where all are right.

    Args:
        right: N truth values.
        clips: N names of what each is about.
        seed: Of the bootstrap.
    """
    wilson = accuracy(right)
    if len(set(clips)) == len(clips):
        return wilson.low, wilson.high

    def share(hits: np.ndarray, _: np.ndarray) -> float:
        return float(np.mean(hits))

    low, high = bootstrap_interval(share, right, right, seed, sources=clips)
    return (wilson.low, wilson.high) if math.isnan(low) else (min(low, wilson.low), max(high, wilson.high))


def summarize_choices(
    chosen: Sequence[int | None],
    answers: Sequence[int],
    options: Sequence[Sequence[str]],
    types: Sequence[str],
    tags: Sequence[Iterable[str]] | None = None,
) -> ChoiceSummary:
    """Metrics of N questions with options. Leave out the questions to clips that could not be read.

    Args:
        chosen: N indices of the options that the answers name, `None` where they name none (`rewards.parse_choice`).
        answers: N indices of the right options.
        options: N lists of texts.
        types: N types, e.g. "yesno" or "what/how".
        tags: N collections of tags, e.g. ("Temporal", "Global"); default none.

    Raises:
        ValueError: If the lengths differ, or an index is none of its options.
    """
    tags = [()] * len(answers) if tags is None else tags
    _check(chosen, answers, options, types, tags)
    right = [c == a for c, a in zip(chosen, answers, strict=True)]
    by_type, by_tag = _places([[name] for name in types]), _places(tags)
    shares = [1 / len(own) for own in options]
    return ChoiceSummary(
        accuracy=accuracy(right),
        unparsable=_mean([c is None for c in chosen]),
        by_type={name: accuracy([right[i] for i in own]) for name, own in by_type.items()},
        by_tag={name: accuracy([right[i] for i in own]) for name, own in by_tag.items()},
        majority=_constant(range(len(right)), answers, options, types),
        majority_by_type={
            name: majority([answers[i] for i in own], [options[i] for i in own]) for name, own in by_type.items()
        },
        majority_by_tag={name: _constant(own, answers, options, types) for name, own in by_tag.items()},
        random=_mean(shares),
        random_by_type={name: _mean([shares[i] for i in own]) for name, own in by_type.items()},
        random_by_tag={name: _mean([shares[i] for i in own]) for name, own in by_tag.items()},
        yes_no={
            name: yes_no([right[i] for i in own], [folded(options[i][answers[i]]) == ("yes",) for i in own])
            for name, own in by_type.items()
            if all(tuple(sorted(map(folded, options[i]))) == YES_NO for i in own)
        },
    )


def _constant(
    asked: Sequence[int], answers: Sequence[int], options: Sequence[Sequence[str]], types: Sequence[str]
) -> float:
    """Accuracy of the best constant answer to each type, over the questions at some places; NaN of none."""
    by_type: dict[str, list[int]] = {}
    for place in asked:
        by_type.setdefault(types[place], []).append(place)
    found = [(majority([answers[i] for i in own], [options[i] for i in own]), own) for own in by_type.values()]
    return sum(best.accuracy * len(own) for best, own in found) / len(asked) if asked else math.nan


def majority(answers: Sequence[int], options: Sequence[Sequence[str]]) -> Majority:
    """The best constant answer to N >= 1 questions of one type: a text if all have the same options, else a letter.

    Args:
        answers: N indices of the right options.
        options: N lists of texts.
    """
    fixed = len({tuple(sorted(map(folded, own))) for own in options}) == 1
    names = [options[i][a].strip() if fixed else letter(a) for i, a in enumerate(answers)]
    keys = [folded(name) for name in names]
    [(key, count)] = Counter(keys).most_common(1)
    return Majority(count / len(names), names[keys.index(key)], "text" if fixed else "letter")


def yes_no(right: Sequence[bool], yes: Sequence[bool]) -> YesNo:
    """Balanced accuracy, F1 and MCC of N answers. One that names neither counts as the wrong one of the two.

    Args:
        right: N times, whether the answer is right.
        yes: N times, whether "Yes" is.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(right) != len(yes):
        raise ValueError(f"right has {len(right)} entries, yes {len(yes)}: need one of each per question.")
    hit, truth = np.array(right, dtype=bool), np.array(yes, dtype=bool)
    tp, fn, tn, fp = (int(np.sum(part)) for part in (hit & truth, ~hit & truth, hit & ~truth, ~hit & ~truth))
    margins = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return YesNo(
        balanced_accuracy=(_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2,
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        mcc=_ratio(tp * tn - fp * fn, margins),
        count=len(hit),
    )


def rotations(options: Sequence[str]) -> list[list[str]]:
    """The n rotations of n options; rotation r begins with option r."""
    return [[*options[r:], *options[:r]] for r in range(len(options))]


def rotation_consistency(chosen: Sequence[Sequence[int | None]]) -> float:
    """Share of questions to which the same option is given in every rotation of the options; NaN without questions.

    A policy that looks at the letters only, and always answers "A", has 0.

    Args:
        chosen: For each question its answers to `rotations(options)`: indices into the rotated options, `None` where an
            answer names none, which makes the question inconsistent.

    Raises:
        ValueError: If a question has fewer than 2 answers, or an index is none of its options.
    """
    consistent = []
    for place, own in enumerate(chosen):
        size = len(own)
        if size < 2 or not all(index is None or 0 <= index < size for index in own):
            raise ValueError(
                f"chosen[{place}]={list(own)}: n options need n answers, one per rotation, each an index "
                "from 0 to n - 1 or None."
            )
        named = {None if index is None else (index + r) % size for r, index in enumerate(own)}
        consistent.append(len(named) == 1 and None not in named)
    return _mean(consistent)


def _check(chosen: Sequence, answers: Sequence, options: Sequence, types: Sequence, tags: Sequence) -> None:
    counts = {"chosen": len(chosen), "answers": len(answers), "options": len(options), "types": len(types)}
    counts["tags"] = len(tags)
    if len(set(counts.values())) > 1:
        raise ValueError(f"{counts}: need one entry of each per question.")
    for name, indices in (("chosen", chosen), ("answers", answers)):
        for place, (index, own) in enumerate(zip(indices, options, strict=True)):
            if not (index is None and name == "chosen") and not (index is not None and 0 <= index < len(own)):
                raise ValueError(
                    f"{name}[{place}]={index!r}: must be an index of the {len(own)} options {list(own)}, from 0"
                    + (", or None where the answer names none." if name == "chosen" else ".")
                )


def _places(names: Sequence[Iterable[str]]) -> dict[str, list[int]]:
    """Name -> places of the questions that have it, names in order of their first."""
    places: dict[str, list[int]] = {}
    for place, own in enumerate(names):
        for name in dict.fromkeys(own):
            places.setdefault(name, []).append(place)
    return places


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
