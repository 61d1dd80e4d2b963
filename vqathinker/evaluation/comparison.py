"""Two policies on the same labelled clips: is one better, and by how much?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.data import BenchmarkSet, LabelRow, Stalls, stalls_of
from vqathinker.evaluation.report import Table
from vqathinker.metrics.correlation import plcc, srcc
from vqathinker.metrics.paired import CorrelationDifference, correlation_difference
from vqathinker.scoring import QualityScorer, fingerprint, score_files, settings_of, told_settings

NOTE = (
    "Clips that both policies scored. Difference: the policy minus the baseline, with its 95 % interval of a paired "
    "bootstrap (each resample is the same clips for both); if the interval contains 0, the clips do not show which is "
    "better."
)


@dataclass(frozen=True)
class PolicyScores:
    """A policy's scores of test sets.

    Attributes:
        settings: What they were made with, see `settings_of`.
        scored: Name of a set -> a row of `score_files` for each of its labelled clips, in order.
    """

    settings: Mapping[str, Any]
    scored: Mapping[str, Sequence[Mapping[str, Any]]]


def score_sets(scorer: QualityScorer, found: Sequence[BenchmarkSet], out: str | Path) -> PolicyScores:
    """Score test sets only, as the baseline of another policy; a second call goes on where the first stopped.

    Args:
        scorer: Scores.
        found: The sets.
        out: Folder whose `scores/` gets the tables, as in `run_benchmarks`.

    Raises:
        LabelError: If a label file cannot be used; before anything is scored.
    """
    settings = settings_of(scorer)
    sets = [(one, one.rows()) for one in found]
    made_with = fingerprint(settings)
    return PolicyScores(settings, {one.name: score_set(scorer, one, rows, Path(out), made_with) for one, rows in sets})


def score_set(
    scorer: QualityScorer, one: BenchmarkSet, rows: Sequence[LabelRow], out: Path, made_with: str
) -> list[dict[str, Any]]:
    """Score one set into `out/scores/MADE_WITH/NAME.csv`; gives a row of `score_files` per clip. Prompts tell of
    stalls what the labels do, as in training."""
    events = events_of(rows) if scorer.reads_text else {}
    made_with = fingerprint({"made_with": made_with} | told_settings(events)) if events else made_with
    table = out / "scores" / made_with / f"{one.name}.csv"
    return score_files(scorer, [row.video for row in rows], made_with, [table], title=one.title, events=events)


def events_of(rows: Sequence[LabelRow]) -> dict[str, Stalls]:
    """Clip -> its stalls, of the clips whose labels tell them."""
    return {row.video: stalls for row in rows if (stalls := stalls_of(row)) is not None}


@dataclass(frozen=True)
class SetComparison:
    """A baseline and a policy on one test set.

    Attributes:
        name: Of the set.
        title: For tables.
        num_clips: Clips that both gave a score.
        srcc: Spearman correlations with the labels, and their difference with its interval.
        plcc: Pearson's.
        interval_over: What the bootstrap drew, see `SetResult`.
    """

    name: str
    title: str
    num_clips: int
    srcc: CorrelationDifference
    plcc: CorrelationDifference
    interval_over: str = "clips"


def compare_scores(
    one: BenchmarkSet,
    rows: Sequence[LabelRow],
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    seed: int = 0,
) -> SetComparison:
    """What changed from one policy to another on one set. Intervals are over sources where these are told.

    Args:
        one: The set.
        rows: Its N labels.
        before: N rows of `score_files`, the first policy's.
        after: N rows of the second.
        seed: Of the bootstrap.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    told = one.sources(rows)
    each = zip(rows, before, after, told.names or range(len(rows)), strict=True)
    known = [((row.mos, a["score"], b["score"]), source) for row, a, b, source in each if _both(a, b)]
    sources = [source for _, source in known]
    mos, first, second = np.array([numbers for numbers, _ in known], dtype=float).reshape(-1, 3).T
    found = {
        name: correlation_difference(metric, first, second, mos, seed, sources=sources)
        for name, metric in (("srcc", srcc), ("plcc", plcc))
    }
    return SetComparison(one.name, one.title, len(known), **found, interval_over=told.drawn(sources))


def _both(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return not math.isnan(before["score"]) and not math.isnan(after["score"])


@dataclass(frozen=True)
class Comparison:
    """A baseline and a policy on several test sets.

    Attributes:
        baseline: What the baseline's scores were made with, see `settings_of`.
        sets: A comparison per set.
    """

    baseline: Mapping[str, Any]
    sets: tuple[SetComparison, ...]


def comparison_table(comparison: Comparison) -> Table:
    """A line per set: both policies' correlations, and the difference.

    Args:
        comparison: With at least one set.
    """
    columns = ["set", "clips", "SRCC baseline", "SRCC", "SRCC difference"]
    columns += ["PLCC baseline", "PLCC", "PLCC difference"]
    rows = [
        [one.title, one.num_clips]
        + [cell for own in (one.srcc, one.plcc) for cell in (own.before, own.after, signed(own))]
        for one in comparison.sets
    ]
    over = intervals_note([(one.title, one.interval_over) for one in comparison.sets])
    return Table("Against the baseline", columns, rows, f"Baseline: {comparison.baseline['checkpoint']}. {NOTE} {over}")


def signed(found: Any) -> str | None:
    """`+0.120 [+0.030, +0.210]`: `difference`, `low` and `high` of a comparison; without what is undefined."""
    if math.isnan(found.difference):
        return None
    text = f"{found.difference:+.3f}"
    return text if math.isnan(found.low) else f"{text} [{found.low:+.3f}, {found.high:+.3f}]"


def intervals_note(intervals: Sequence[tuple[str, str]]) -> str:
    """Which sets' intervals are over sources, and which over clips; from (title, what was drawn) of each set."""
    if all(over == "clips" for _, over in intervals):
        return "Intervals over clips."
    clips = [title + over.removeprefix("clips") for title, over in intervals if over.startswith("clips")]
    sources = [f"{title}, {over}" for title, over in intervals if not over.startswith("clips")]
    parts = [f"Intervals over sources, each drawn with all of its clips: {'; '.join(sources)}."] if sources else []
    return " ".join(parts + ([f"Intervals over clips: {'; '.join(clips)}."] if clips else []))
