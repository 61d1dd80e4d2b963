"""A policy on pairs of labelled clips: how often it names the better one, and whether the order of showing matters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from tqdm.auto import tqdm

from vqathinker.data import Sample
from vqathinker.evaluation.benchmark import markdown
from vqathinker.evaluation.report import Table
from vqathinker.metrics.choices import accuracy
from vqathinker.scoring import QualityComparison, QualityScorer
from vqathinker.scoring.comparing import compare_pairs, pair_of
from vqathinker.scoring.scorer import process_state
from vqathinker.tasks import accuracy_by_difference, find_task
from vqathinker.writing import finite

EDGES = (0.0, 0.25, 0.5, 1.0, math.inf)
"""Bounds of the differences of MOS that results are broken down by, in score units."""


@dataclass(frozen=True)
class ComparedPair:
    """A pair in one order, and what was said of it in both.

    Attributes:
        sample: Of the task "compare", see `data.pairs_of`.
        found: The comparison.
    """

    sample: Sample
    found: QualityComparison

    @property
    def right(self) -> float:
        """1 if the preference is on the better clip's side, 0.5 if on none; NaN for clips that are similar."""
        better, preference = self.sample.target["better"], self.found.preference
        if better == "similar" or math.isnan(preference):
            return math.nan if better == "similar" else 0.0
        return 0.5 + 0.5 * float(np.sign(preference - 0.5)) * (1 if better == "first" else -1)


@dataclass(frozen=True)
class PairReport:
    """How well pairs are compared. NaN where undefined.

    Attributes:
        pairs: Those of readable clips.
        unreadable: Clips of the others, with the reason.
        words: Of both orders' greedy answers, see `tasks.Compare.measure`.
        preference_accuracy: Share of pairs with a better clip whose preference is on its side; one without a preference
            counts as wrong, and one of exactly 0.5 as half right.
        interval: Its 95 % Wilson interval, which takes pairs as independent.
        by_difference: For each range of `EDGES`: low, high, accuracy of the words, of the preference, answers, pairs.
    """

    pairs: tuple[ComparedPair, ...]
    unreadable: tuple[str, ...]
    words: dict[str, float]
    preference_accuracy: float
    interval: tuple[float, float]
    by_difference: tuple[tuple[float, float, float, float, int, int], ...]


def evaluate_pairs(scorer: QualityScorer, samples: Sequence[Sample], progress: bool = False) -> PairReport:
    """Compare pairs whose better clip is known; under `accelerate launch` the processes share them, and all of them
    must call this.

    Args:
        scorer: Compares.
        samples: Of the task "compare", see `data.pairs_of`. Of a pair that comes in both orders the first counts: both
            are shown anyway.
        progress: Show a progress bar.
    """
    different = {frozenset(sample.clips): sample for sample in reversed(samples) if len({*sample.clips}) == 2}
    asked = list(reversed(different.values()))
    state = process_state()
    own = [pair_of(sample) for sample in asked[state.process_index :: state.num_processes]]
    compared: list[QualityComparison] = []
    with tqdm(total=len(own), desc="comparing", unit="pair", disable=None if progress else True) as bar:
        for batch in compare_pairs(scorer, own):
            compared += batch
            bar.update(len(batch))
    by_clips = {(found.first, found.second): found for found in gather_object(compared)}
    both = [ComparedPair(sample, by_clips[pair_of(sample)]) for sample in asked]
    known = [one for one in both if one.found.status != "unreadable"]
    lost = dict.fromkeys(one.found.error for one in both if one.found.status == "unreadable")
    answers, rows = _answers(scorer, known)
    sure = [one.right for one in known if not math.isnan(one.right)]
    share = accuracy(sure)
    return PairReport(
        tuple(known),
        tuple(lost),
        find_task("compare").measure(answers, rows),
        share.value,
        (share.low, share.high),
        _by_difference(answers, rows, known),
    )


def _answers(scorer: QualityScorer, pairs: Sequence[ComparedPair]) -> tuple[list[str], list[dict[str, Any]]]:
    """The answers of both orders, and their rows."""
    task = find_task("compare")
    answers, rows = [], []
    for pair in pairs:
        for sample, answer in zip((pair.sample, _swapped(pair.sample)), pair.found.answers, strict=True):
            answers.append(answer)
            rows.append(task.columns(sample) | {"prompt": task.messages(sample, scorer.processor)})
    return answers, rows


def _swapped(sample: Sample) -> Sample:
    """The same pair in the other order, as far as measures look at it."""
    target = dict(sample.target)
    target["better"] = {"first": "second", "second": "first"}.get(target["better"], "similar")
    for name in ("difference", "rank_difference"):
        target[name] = None if target.get(name) is None else -target[name]
    return Sample(sample.id, sample.task, sample.clips[::-1], sample.question, target, sample.tags, sample.system)


def _by_difference(
    answers: Sequence[str], rows: Sequence[Mapping[str, Any]], pairs: Sequence[ComparedPair]
) -> tuple[tuple[float, float, float, float, int, int], ...]:
    found = []
    for words, (low, high) in zip(accuracy_by_difference(answers, rows, EDGES), pairwise(EDGES), strict=True):
        own = [p for p in pairs if p.sample.target.get("difference") is not None]
        own = [p for p in own if low <= abs(p.sample.target["difference"]) < high]
        right = [p.right for p in own if not math.isnan(p.right)]
        mean = float(np.mean(right)) if right else math.nan
        found.append((low, high, words.accuracy, mean, words.pairs, len(own)))
    return tuple(found)


def pair_tables(report: PairReport) -> list[Table]:
    """The report as tables."""
    words, (low, high) = report.words, report.interval
    rows: list[list[object]] = [
        ["accuracy of the preference", f"{report.preference_accuracy:.3f} [{low:.3f}, {high:.3f}]"],
        ["accuracy of the word", words["compare_accuracy"]],
        ["answers of another form", words["compare_unparsable"]],
        ["bias to the first", words["compare_first_bias"]],
        ["order consistency", words["compare_consistency"]],
    ]
    note = (
        f"{len(report.pairs)} pairs, each shown in both orders; {len(report.unreadable)} clips could not be read. "
        "preference: on the side of the better clip, of pairs that have one; the interval takes pairs as independent. "
        "bias: share of the word `first` less the share that is right. consistency: pairs whose words name one clip."
    )
    ranges = [[f"{a:g} to {b:g}", pairs, words, sides] for a, b, words, sides, _, pairs in report.by_difference]
    columns = ["difference of MOS", "pairs", "accuracy of the word", "accuracy of the preference"]
    return [Table("Pairs", ["measure", "value"], rows, note), Table("By difference", columns, ranges)]


def write_pairs(out: Path, report: PairReport, provenance: Mapping[str, Any]) -> str:
    """Write `pairs.json` (everything) and `pairs.md` (the tables), and give the latter's text."""
    out.mkdir(parents=True, exist_ok=True)
    ranges = [[None if value == math.inf else value for value in row] for row in report.by_difference]
    whole = {"provenance": dict(provenance), **asdict(report), "by_difference": ranges}
    (out / "pairs.json").write_text(json.dumps(finite(whole), indent=1) + "\n", encoding="utf-8")
    text = markdown(pair_tables(report))
    (out / "pairs.md").write_text(text, encoding="utf-8")
    return text
