"""Tables of answered questions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vqathinker.evaluation.comparison import signed
from vqathinker.evaluation.questions import QuestionReport
from vqathinker.evaluation.report import Table
from vqathinker.metrics.choices import Accuracy
from vqathinker.metrics.open_answers import Mean
from vqathinker.metrics.paired import PairedDifference
from vqathinker.wording import counted

NOTE = (
    "accuracy: share of right greedy answers with its 95 % interval; an answer that names no option is wrong. "
    "majority: the most frequent right answer, given to all questions of a type; it knows the right answers. random: "
    "guessing. no video: the same policy and prompts with a black clip."
)
COLUMNS = ["questions", "accuracy", "majority", "random", "no video"]
"""Behind the type or the tag."""
ORDERED_NOTE = (
    "severity: mean of 1 - d / (L - 1), the answer being d steps from the right one of L, with its 95 % interval of a "
    "bootstrap over clips; an answer that names no option has 0. constant: the best constant step, which knows the "
    "right answers."
)
CHANGE_NOTE = (
    "Difference: the policy minus the baseline, with its 95 % interval of a paired bootstrap over clips; gained, "
    "lost: questions that only the policy, or only the baseline, answers correctly; p: McNemar's exact test, which "
    "treats questions as independent."
)


@dataclass(frozen=True)
class QuestionComparison:
    """A baseline and a policy on the same questions.

    Attributes:
        baseline: What the baseline's answers were made with, see `settings_of`.
        accuracy: Of the baseline, in [0, 1].
        change: From the baseline to the policy, see `compare_questions`.
    """

    baseline: Mapping[str, Any]
    accuracy: float
    change: PairedDifference


def question_table(report: QuestionReport, title: str = "Questions with options") -> Table:
    """A line per type and one for all: accuracy beside what constant answers, guessing and no video reach.

    Args:
        report: From `evaluate_questions`.
        title: Heading.
    """
    summary, no_video = report.summary, report.no_video
    rows = [
        [
            name,
            own.count,
            _with_interval(own, report.intervals[name]),
            summary.majority_by_type[name].accuracy,
            summary.random_by_type[name],
            no_video and no_video.by_type[name].value,
        ]
        for name, own in summary.by_type.items()
    ]
    whole = [summary.accuracy.count, _with_interval(summary.accuracy, report.intervals[""])]
    rows.append(["all", *whole, summary.majority, summary.random, no_video and no_video.accuracy.value])
    return Table(title, ["type", *COLUMNS], rows, " ".join([NOTE, *_counts(report)]))


def tag_table(report: QuestionReport) -> Table:
    """A line per tag, with the columns of `question_table`.

    Args:
        report: From `evaluate_questions`.
    """
    summary, no_video = report.summary, report.no_video
    rows = [
        [
            name,
            own.count,
            _with_interval(own, report.tag_intervals[name]),
            summary.majority_by_tag[name],
            summary.random_by_tag[name],
            no_video and no_video.by_tag[name].value,
        ]
        for name, own in sorted(summary.by_tag.items())
    ]
    note = "Columns as above. majority: the most frequent right answer of each type among the tag's own questions."
    return Table("By tag", ["tag", *COLUMNS], rows, note)


def ordered_table(report: QuestionReport) -> Table:
    """A line per type whose options are steps of a scale, and one for all of them.

    Args:
        report: From `evaluate_questions`.
    """
    rows = [
        [
            name or "all",
            own.severity.count,
            _with_interval(own.severity, (own.severity.low, own.severity.high)),
            own.constant,
            own.random,
            None if report.no_video is None else own.no_video,
        ]
        for name, own in sorted(report.ordered.items(), key=lambda item: not item[0])
    ]
    columns = ["type", "questions", "severity", "constant", "random", "no video"]
    return Table("Ordered options", columns, rows, ORDERED_NOTE)


def question_tables(report: QuestionReport, comparison: QuestionComparison | None = None) -> list[Table]:
    """`question_table`, and what else there is: against a baseline, by tag, of yes/no questions, of ordered options,
    under rotation."""
    tables = [question_table(report)]
    if comparison is not None:
        change = comparison.change
        row = [len(report.questions), comparison.accuracy, report.summary.accuracy.value, signed(change)]
        columns = ["questions", "accuracy baseline", "accuracy", "difference", "gained", "lost", "p"]
        note = f"Baseline: {comparison.baseline['checkpoint']}. {CHANGE_NOTE}"
        tables.append(
            Table("Against the baseline", columns, [[*row, change.gained, change.lost, change.p_value]], note)
        )
    if report.summary.by_tag:
        tables.append(tag_table(report))
    if report.summary.yes_no:
        rows = [[name, y.count, y.balanced_accuracy, y.f1, y.mcc] for name, y in report.summary.yes_no.items()]
        note = (
            "If all answers are the same, balanced accuracy is 0.5 and MCC undefined. F1 is that of Yes. An answer "
            "that names no option counts as the wrong one of the two."
        )
        tables.append(Table("Yes or no", ["type", "questions", "balanced accuracy", "F1", "MCC"], rows, note))
    if report.ordered:
        tables.append(ordered_table(report))
    if report.num_rotated:
        counts = Counter(question.type for question in report.questions if question.rotated)
        rows = [[name, counts[name], value] for name, value in report.consistency_by_type.items()]
        rows.append(["all", report.num_rotated, report.consistency])
        note = "Share of questions to which one option is given in every rotation of the options."
        tables.append(Table("Rotated options", ["type", "questions", "consistent"], rows, note))
    return tables


def _with_interval(own: Accuracy | Mean, interval: tuple[float, float]) -> float | str:
    return own.value if math.isnan(interval[0]) else f"{own.value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _counts(report: QuestionReport) -> list[str]:
    clips = {question.video for question in report.questions}
    said = [f"{counted(len(report.questions), 'question')} about {counted(len(clips), 'clip')}."]
    if len(clips) < len(report.questions):
        said.append("Intervals are no narrower than those of a bootstrap that draws whole clips.")
    if report.unreadable:
        said.append(f"Left out because their clips cannot be read: {counted(len(report.unreadable), 'question')}.")
    if report.questions:
        said.append(f"Answers that name no option: {report.summary.unparsable:.3f}.")
    if report.num_rotated:
        said.append(f"One option in every rotation of the options: {report.consistency:.3f} of {report.num_rotated}.")
    return said
