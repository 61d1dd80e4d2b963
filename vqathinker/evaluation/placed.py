"""A policy on questions whose answers are numbers: when, where, how often; and what a constant and no video reach."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker.data import Sample
from vqathinker.evaluation.benchmark import markdown
from vqathinker.evaluation.questions import greedy_answers
from vqathinker.evaluation.report import Table
from vqathinker.scoring import QualityScorer
from vqathinker.tasks.places import PLACED
from vqathinker.wording import counted
from vqathinker.writing import finite

NOTE = (
    "policy: greedy answers, those without a value count as an IoU of 0, or as a wrong count. constant: the median of "
    "all right answers, given to each question; it knows them. no video: the same policy, prompts and a black clip. "
    "iou: mean overlap with the right interval or box; hit: share above 0.5; error: mean distance of the counts."
)


@dataclass(frozen=True)
class PlacedReport:
    """How well questions of one task are answered.

    Attributes:
        task: "when", "where" or "count".
        ids: Of the questions about readable clips.
        answers: The whole greedy answer to each.
        unreadable: Id of each question that was left out -> why its clip cannot be read.
        metrics: Of the policy, by name; NaN where undefined.
        constant: The same of the median of the right answers, given to all.
        no_video: The same of the policy's answers about a black clip.
    """

    task: str
    ids: tuple[str, ...]
    answers: tuple[str, ...]
    unreadable: dict[str, str]
    metrics: dict[str, float]
    constant: dict[str, float]
    no_video: dict[str, float]


def evaluate_placed(scorer: QualityScorer, samples: Sequence[Sample], progress: bool = False) -> list[PlacedReport]:
    """Ask questions whose right answers are numbers, one greedy answer each; under `accelerate launch` the processes
    share the work, and all of them must call this.

    Args:
        scorer: Asks.
        samples: Of the tasks `PLACED`.
        progress: Show a progress bar.

    Returns:
        One report for each task that there are questions of.
    """
    return [
        _report(scorer, task, own, progress)
        for task in PLACED
        if (own := [sample for sample in samples if sample.task == task])
    ]


def _report(scorer: QualityScorer, name: str, samples: Sequence[Sample], progress: bool) -> PlacedReport:
    task = PLACED[name]
    found = greedy_answers(scorer, samples, f"answering {name}", progress)
    readable = [i for i, answer in enumerate(found) if answer.status != "unreadable"]
    asked = [samples[i] for i in readable]
    blank, black = scorer.processor.blank_clip(), [replace(sample, clips=("",)) for sample in asked]
    without = greedy_answers(scorer, black, f"answering {name} without video", progress, lambda _: blank)
    rows = [task.columns(sample) for sample in asked]
    answers = [found[i].answers[0] for i in readable]
    constant = f"<answer>{task.written(_median([row[task.column] for row in rows]))}</answer>" if rows else ""
    return PlacedReport(
        task=name,
        ids=tuple(sample.id for sample in asked),
        answers=tuple(answers),
        unreadable={samples[i].id: answer.error for i, answer in enumerate(found) if answer.status == "unreadable"},
        metrics=task.measure(answers, rows),
        constant=task.measure([constant] * len(rows), rows),
        no_video=task.measure([answer.answers[0] for answer in without], rows),
    )


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
            rows.append([report.task, len(report.ids), metric, value, report.constant[name], report.no_video[name]])
    left_out = sum(len(report.unreadable) for report in reports)
    note = f" Left out because their clips cannot be read: {counted(left_out, 'question')}." if left_out else ""
    columns = ["task", "questions", "metric", "policy", "constant", "no video"]
    return Table("Questions answered in numbers", columns, rows, NOTE + note)


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
