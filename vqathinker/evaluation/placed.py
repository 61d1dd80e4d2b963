"""A policy on questions whose answers are numbers (when, where, how often) or a level word, beside a constant and no
video."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.data import Sample
from vqathinker.data.stalls import COLUMN, complete
from vqathinker.evaluation.benchmark import markdown
from vqathinker.evaluation.questions import greedy_answers
from vqathinker.evaluation.report import Table
from vqathinker.metrics.choices import share_interval
from vqathinker.metrics.correlation import bootstrap_interval, srcc
from vqathinker.metrics.open_answers import mean_over_clips
from vqathinker.scoring import QualityScorer
from vqathinker.tasks import PLACED, TASKS
from vqathinker.tasks.level import STEM, Level, label_of, word_of
from vqathinker.tasks.places import Placed
from vqathinker.tasks.task import Row, Task
from vqathinker.wording import counted
from vqathinker.writing import finite

NOTE = (
    "policy: greedy answers, those without a value count as an IoU of 0, or as a wrong count. constant: the median of "
    "all right answers, of level words the most frequent one, given to each question; it knows them. no video: the "
    "same policy, prompts and a black clip. iou: mean overlap with the right interval or box; hit: share above 0.5; "
    "error: mean distance of the counts; srcc: of the words' levels with MOS. Intervals: 95 %, of a bootstrap that "
    "draws whole clips; those of shares are no narrower than Wilson's."
)
ASKED = (*PLACED, "level")
"""Tasks that are measured here."""
SHARES = ("_hit", "_accuracy", "_unparsable")
"""How the names of metrics end that are shares of the questions."""


@dataclass(frozen=True)
class PlacedReport:
    """How well questions of one task are answered.

    Attributes:
        task: "when", "where", "count" or "level".
        ids: Of the questions about readable clips.
        answers: The whole greedy answer to each.
        unreadable: Id of each question that was left out -> why its clip cannot be read.
        metrics: Of the policy, by name; NaN where undefined.
        intervals: Ends of their 95 % intervals, of a bootstrap that draws whole clips; those of shares are no narrower
            than Wilson's. NaN where undefined, or of one clip.
        constant: The same of the median of the right answers, or of the most frequent level, given to all.
        no_video: The same of the policy's answers about a black clip.
    """

    task: str
    ids: tuple[str, ...]
    answers: tuple[str, ...]
    unreadable: dict[str, str]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    constant: dict[str, float]
    no_video: dict[str, float]


def evaluate_placed(
    scorer: QualityScorer, samples: Sequence[Sample], seed: int = 0, progress: bool = False
) -> list[PlacedReport]:
    """Ask questions whose right answers are numbers or level words, one greedy answer each; under `accelerate launch`
    the processes share the work, and all of them must call this.

    Args:
        scorer: Asks.
        samples: Of the tasks `ASKED`.
        seed: Of the bootstrap.
        progress: Show a progress bar.

    Returns:
        One report for each task that there are questions of.
    """
    return [
        _report(scorer, task, own, seed, progress)
        for task in ASKED
        if (own := [sample for sample in samples if sample.task == task])
    ]


def _report(scorer: QualityScorer, name: str, samples: Sequence[Sample], seed: int, progress: bool) -> PlacedReport:
    task = TASKS[name]
    found = greedy_answers(scorer, samples, f"answering {name}", progress)
    readable = [i for i, answer in enumerate(found) if answer.status != "unreadable"]
    asked = [samples[i] for i in readable]
    blank, black = scorer.processor.blank_clip(), [_without_clip(sample) for sample in asked]
    without = greedy_answers(scorer, black, f"answering {name} without video", progress, lambda _: blank)
    rows = [task.columns(sample) for sample in asked]
    answers = [found[i].answers[0] for i in readable]
    return PlacedReport(
        task=name,
        ids=tuple(sample.id for sample in asked),
        answers=tuple(answers),
        unreadable={samples[i].id: answer.error for i, answer in enumerate(found) if answer.status == "unreadable"},
        metrics=task.measure(answers, rows),
        intervals=_intervals(task, answers, rows, [sample.clips for sample in asked], seed),
        constant=task.measure(_constant(name, rows), rows),
        no_video=task.measure([answer.answers[0] for answer in without], rows),
    )


def _intervals(
    task: Task, answers: Sequence[str], rows: Sequence[Row], clips: Sequence[Hashable], seed: int
) -> dict[str, tuple[float, float]]:
    """Name -> ends. All metrics but SRCC are means over questions, so that those of one question are what is drawn."""
    alone = [task.measure([answer], [row]) for answer, row in zip(answers, rows, strict=True)]
    found = {}
    for name in task.metrics:
        values = [own[name] for own in alone]
        if name.endswith(SHARES):
            found[name] = share_interval([value == 1 for value in values], clips, seed)
        else:
            mean = mean_over_clips(values, clips, seed)
            found[name] = (mean.low, mean.high)
    if isinstance(task, Level):
        found["level_srcc"] = _srcc_interval(task, answers, rows, clips, seed)
    return found


def _srcc_interval(
    task: Level, answers: Sequence[str], rows: Sequence[Row], clips: Sequence[Hashable], seed: int
) -> tuple[float, float]:
    levels = [task.parse(answer, row).value for answer, row in zip(answers, rows, strict=True)]
    known = [
        (level, label_of(row), clip) for level, row, clip in zip(levels, rows, clips, strict=True) if level is not None
    ]
    if not known:
        return math.nan, math.nan
    said, labels, sources = zip(*known, strict=True)
    return bootstrap_interval(srcc, said, labels, seed, sources=sources)


def _without_clip(sample: Sample) -> Sample:
    """The same prompt about no clip, with what the clip's file says of its stalls."""
    told = {} if sample.stalls is None else {COLUMN: complete(sample.stalls, sample.clips[0]).to_json()}
    return replace(sample, clips=("",), target={**sample.target, **told})


def _constant(name: str, rows: Sequence[Row]) -> list[str]:
    """One answer to all rows, in the words of each."""
    if not rows:
        return []
    task = TASKS[name]
    if isinstance(task, Placed):
        return [f"<answer>{task.written(_median([row[task.column] for row in rows]))}</answer>"] * len(rows)
    level = Counter(row["level"] for row in rows).most_common(1)[0][0]
    return [f"<answer>{STEM} {word_of(level, row['level_words'])}.</answer>" for row in rows]


def _median(right: Sequence[Any]) -> Any:
    """Edge by edge, or of the counts the lower middle one."""
    middle = np.quantile(np.asarray(right, dtype=float), 0.5, axis=0, method="lower")
    return [float(edge) for edge in middle] if middle.ndim else int(middle)


def placed_table(reports: Sequence[PlacedReport]) -> Table:
    """A line for each task and metric."""
    rows: list[list[Any]] = []
    for report in reports:
        for name, value in report.metrics.items():
            metric = name.removeprefix(f"{report.task}_")
            low, high = report.intervals[name]
            policy = value if math.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
            rows.append([report.task, len(report.ids), metric, policy, report.constant[name], report.no_video[name]])
    left_out = sum(len(report.unreadable) for report in reports)
    note = f" Left out because their clips cannot be read: {counted(left_out, 'question')}." if left_out else ""
    columns = ["task", "questions", "metric", "policy", "constant", "no video"]
    return Table("Questions answered in numbers or a level word", columns, rows, NOTE + note)


def write_placed(out: str | Path, reports: Sequence[PlacedReport], provenance: Mapping[str, Any]) -> None:
    """Write `places.json` (everything) and `places.md` (the table).

    Args:
        out: Folder; made where there is none.
        reports: From `evaluate_placed`.
        provenance: What the answers were made with.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    whole = {"provenance": dict(provenance), "tasks": [asdict(report) for report in reports]}
    (out / "places.json").write_text(json.dumps(finite(whole), indent=1) + "\n", encoding="utf-8")
    (out / "places.md").write_text(markdown([placed_table(reports)]), encoding="utf-8")
