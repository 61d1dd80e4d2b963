"""Does the reasoning to a clip's score name what FineVD's experts saw? Presence of five dimensions, without a judge.

VQAThinker's and other papers let the policy describe a clip, and GPT-4o decide for each dimension whether a fault of it
is mentioned. Here `rewards.naming` decides, offline, and the same for the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vqathinker.data import Sample, finevd
from vqathinker.evaluation.questions import greedy_answers
from vqathinker.evaluation.report import Table
from vqathinker.metrics.choices import Accuracy, YesNo, accuracy, yes_no
from vqathinker.rewards.distortion import reasoning_of
from vqathinker.rewards.naming import faults_named
from vqathinker.scoring import QualityScorer
from vqathinker.wording import counted

NOTE = (
    "Each clip is scored once, and the faults that the reasoning names (what it denies it does not name) are put into "
    "FineVD's dimensions, against the file's answers Yes and No. faulty: clips with a fault of the dimension; named: "
    "clips of which one is named; accuracy: share of clips of which this is right, with its 95 % interval; constant: "
    "of always or never naming one, whichever is right more often; either has a balanced accuracy of 0.5."
)
COLUMNS = ["dimension", "clips", "faulty", "named", "accuracy", "constant", "balanced accuracy", "F1"]


@dataclass(frozen=True)
class NamedDimension:
    """How well the reasoning names faults of one dimension.

    Attributes:
        faulty: Clips that have one.
        named: Clips whose reasoning names one.
        accuracy: Share of clips of which one is rightly named, or rightly not named.
        constant: The same of always or of never naming one, whichever is more.
        presence: Balanced accuracy, F1 and MCC.
    """

    faulty: int
    named: int
    accuracy: Accuracy
    constant: float
    presence: YesNo


@dataclass(frozen=True)
class NamedDimensions:
    """How well the reasoning to scores names what is wrong.

    Attributes:
        dimensions: Dimension -> numbers, over the readable clips that the file asks about it.
        reasoning: Clip -> what was said of it.
        unreadable: Clip -> why it cannot be read.
    """

    dimensions: dict[str, NamedDimension]
    reasoning: dict[str, str]
    unreadable: dict[str, str]


def presence_of(samples: Sequence[Sample]) -> dict[str, dict[str, bool]]:
    """Clip -> dimension -> whether it has a fault of it, by FineVD's presence questions; {} without any."""
    found: dict[str, dict[str, bool]] = {}
    for sample in samples:
        if sample.tags.get("set") == finevd.SET and sample.tags.get("type") in finevd.DIMENSIONS:
            said = sample.target["options"][ord(sample.target["answer"]) - ord("A")]
            found.setdefault(sample.clips[0], {})[sample.tags["type"]] = said == "Yes"
    return found


def dimensions_in(text: str) -> set[str]:
    """The dimensions of which a reasoning names a fault, see `data.finevd.FAULT_NAMES`."""
    known = {name: dimension for dimension, names in finevd.FAULT_NAMES.items() for name in names}
    return {known[name] for name in faults_named(text, [*known])}


def evaluate_named(scorer: QualityScorer, samples: Sequence[Sample], progress: bool = False) -> NamedDimensions | None:
    """Score each clip of FineVD's presence questions once, greedily, and measure what the reasoning names; under
    `accelerate launch` the processes share the work, and all of them must call this.

    Args:
        scorer: Asks.
        samples: Of a question file.
        progress: Show a progress bar.

    Returns:
        `None` where no sample is such a question.
    """
    labels = presence_of(samples)
    if not labels:
        return None
    found = greedy_answers(scorer, [Sample(clip, "score", (clip,)) for clip in labels], "scoring", progress)
    answers = dict(zip(labels, found, strict=True))
    unreadable = {clip: own.error for clip, own in answers.items() if own.status == "unreadable"}
    reasoning = {clip: reasoning_of(own.answers[0]) for clip, own in answers.items() if clip not in unreadable}
    return summarize_named(labels, reasoning, unreadable)


def summarize_named(
    labels: Mapping[str, Mapping[str, bool]], reasoning: Mapping[str, str], unreadable: Mapping[str, str]
) -> NamedDimensions:
    """The numbers of clips whose reasoning is known.

    Args:
        labels: See `presence_of`.
        reasoning: Clip -> text.
        unreadable: Clip -> why there is none.
    """
    said = {clip: dimensions_in(text) for clip, text in reasoning.items()}
    found = {}
    for name in finevd.DIMENSIONS:
        asked = [clip for clip in said if name in labels[clip]]
        if asked:
            found[name] = _dimension([name in said[clip] for clip in asked], [labels[clip][name] for clip in asked])
    return NamedDimensions(found, dict(reasoning), dict(unreadable))


def _dimension(said: Sequence[bool], has: Sequence[bool]) -> NamedDimension:
    right = [one == other for one, other in zip(said, has, strict=True)]
    share = sum(has) / len(has)
    return NamedDimension(sum(has), sum(said), accuracy(right), max(share, 1 - share), yes_no(right, has))


def named_table(found: NamedDimensions) -> Table:
    """A line per dimension."""
    rows = [[name, *_cells(own)] for name, own in found.dimensions.items()]
    count = len(found.unreadable)
    lost = f" Left out because they cannot be read: {counted(count, 'clip')}." if count else ""
    return Table("FineVD, faults named in the reasoning to a score", COLUMNS, rows, NOTE + lost)


def _cells(own: NamedDimension) -> list[object]:
    mean = own.accuracy
    shown = f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    return [mean.count, own.faulty, own.named, shown, own.constant, own.presence.balanced_accuracy, own.presence.f1]
