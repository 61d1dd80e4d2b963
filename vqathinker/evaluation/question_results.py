"""All tables of answered questions, and the files that keep them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vqathinker.evaluation.benchmark import markdown
from vqathinker.evaluation.named_dimensions import NamedDimensions, named_table
from vqathinker.evaluation.open_questions import OpenReport, OpenSummary
from vqathinker.evaluation.published import published_tables
from vqathinker.evaluation.question_tables import QuestionComparison, question_tables
from vqathinker.evaluation.questions import QuestionReport
from vqathinker.evaluation.report import Table
from vqathinker.metrics.open_answers import Mean
from vqathinker.rewards.choice import letter
from vqathinker.wording import counted
from vqathinker.writing import finite

OPEN_NOTE = (
    "key-term F1: of the answer's key terms against the reference's, with its 95 % interval over clips; an answer that "
    "says nothing has 0. constant: the best constant answer among the references, which knows them. random: another "
    "question's reference. no video: the same policy and prompts with a black clip."
)
COLUMNS = ("id", "video", "type", "question", "options", "right", "chosen", "status", "no_video", "rotated", "answer")
"""Of `answers.csv`, and `error`."""
OPEN_COLUMNS = ("id", "video", "question", "reference", "said", "status", "f1", "no_video", "judged", "verdicts")
"""Of `open_answers.csv`, and `answer` and `error`."""


def result_tables(
    report: QuestionReport | None,
    comparison: QuestionComparison | None = None,
    opened: OpenReport | None = None,
    named: NamedDimensions | None = None,
) -> list[Table]:
    """The tables of questions with options, of open ones, of what the reasoning names, and what was published on their
    sets.

    Args:
        report: From `evaluate_questions`; `None` if there are none.
        comparison: With another policy, if there was one.
        opened: From `evaluate_open`; `None` if there are none.
        named: From `evaluate_named`; `None` if the file is none of FineVD's.
    """
    tables = question_tables(report, comparison) if report else []
    tables += [open_table(opened)] if opened else []
    return tables + ([named_table(named)] if named else []) + published_tables(report, opened, named)


def open_table(opened: OpenReport) -> Table:
    """A line for all open questions and one per tag: F1 beside what blind answers reach, and the judge's verdicts."""
    rows = [[name or "all", *_cells(own, opened.is_judged)] for name, own in opened.summaries.items()]
    columns = ["", "questions", "key-term F1", "constant", "random", "no video"]
    columns += ["judge"] if opened.is_judged else []
    return Table("Open questions", columns, rows, " ".join([OPEN_NOTE, *_told(opened)]))


def _cells(own: OpenSummary, judged: bool) -> list[object]:
    cells: list[object] = [own.f1.count, _with_interval(own.f1), own.constant, own.random, own.no_video]
    return cells + ([_with_interval(own.judged)] if judged else [])


def _with_interval(mean: Mean) -> float | str:
    return mean.value if math.isnan(mean.low) else f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _told(opened: OpenReport) -> list[str]:
    questions = opened.questions
    clips = {question.video for question in questions}
    said = [f"{counted(len(questions), 'open question')} about {counted(len(clips), 'clip')}."]
    if opened.unreadable:
        said.append(f"Left out because their clips cannot be read: {counted(len(opened.unreadable), 'question')}.")
    if questions:
        said.append(f"Answers that say nothing: {opened.unanswered:.3f}.")
    if without := sum(math.isnan(question.f1) for question in questions):
        said.append(f"References without key terms, not counted in F1: {without}.")
    if opened.is_judged:
        verdicts = [question.verdicts for question in questions if question.verdicts is not None]
        valid = sum(len(own.values) for own in verdicts)
        lost = ", ".join(f"{sum(getattr(own, name) for own in verdicts)} {name}" for name in _LOST)
        unjudged = sum(math.isnan(question.judged) for question in questions)
        said.append(
            f"judge: mean of the valid verdicts (0, 1, 2) of an answer over 2. Verdicts: {valid} valid, {lost}. "
            f"Questions without a valid verdict, not counted: {unjudged}."
        )
    return said


_LOST = ("invalid", "timeouts", "failed")


def write_questions(
    out: str | Path,
    report: QuestionReport | None,
    provenance: Mapping[str, Any],
    comparison: QuestionComparison | None = None,
    opened: OpenReport | None = None,
    named: NamedDimensions | None = None,
) -> None:
    """Write `questions.json` (everything), `questions.md` (the tables), and a line per question: `answers.csv` of those
    with options, `open_answers.csv` of open ones.

    Args:
        out: Folder; made where there is none.
        report: From `evaluate_questions`; `None` if there are none.
        provenance: What the answers were made with.
        comparison: With another policy, if there was one.
        opened: From `evaluate_open`; `None` if there are none.
        named: From `evaluate_named`; `None` if the file is none of FineVD's.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    whole = {"provenance": dict(provenance), **(asdict(report) if report else {})}
    whole |= {"comparison": comparison and asdict(comparison), "open": opened and asdict(opened)}
    whole |= {"named_in_reasoning": named and asdict(named)}
    (out / "questions.json").write_text(json.dumps(finite(whole), indent=1) + "\n", encoding="utf-8")
    shown = markdown(result_tables(report, comparison, opened, named))
    (out / "questions.md").write_text(shown, encoding="utf-8")
    if report:
        _write_rows(out / "answers.csv", COLUMNS, _answer_rows(report), report.unreadable)
    if opened:
        _write_rows(out / "open_answers.csv", (*OPEN_COLUMNS, "answer"), _open_rows(opened), opened.unreadable)


def _write_rows(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], unreadable: Mapping[str, str]
) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, (*columns, "error"), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        for name, error in unreadable.items():
            writer.writerow({"id": name, "status": "unreadable", "error": error})


def _answer_rows(report: QuestionReport) -> Iterable[dict[str, Any]]:
    for question in report.questions:
        named = {key: _letter(getattr(question, key)) for key in ("right", "chosen", "no_video")}
        lists = {
            "options": " | ".join(question.options),
            "rotated": " ".join(_letter(i) or "-" for i in question.rotated),
        }
        yield {**asdict(question), **named, **lists, "answer": " ".join(question.answer.split())}


def _open_rows(opened: OpenReport) -> Iterable[dict[str, Any]]:
    for question in opened.questions:
        texts = {key: " ".join(getattr(question, key).split()) for key in ("reference", "said", "answer")}
        verdicts = "" if question.verdicts is None else " ".join(map(str, question.verdicts.values))
        numbers = {key: _number(getattr(question, key)) for key in ("f1", "no_video", "judged")}
        yield {**asdict(question), **texts, **numbers, "verdicts": verdicts}


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"


def _letter(index: int | None) -> str:
    return "" if index is None else letter(index)
