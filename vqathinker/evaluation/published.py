"""Published rows beside a policy's own, on the public sets of questions that it was asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vqathinker.data import finevd
from vqathinker.data.question_sets import FINEVD_PRESENCE, QBENCH_CONTEXT, QBENCH_TYPES, Published
from vqathinker.evaluation.named_dimensions import NamedDimensions
from vqathinker.evaluation.open_questions import OpenAnswer, OpenReport
from vqathinker.evaluation.questions import AnsweredQuestion, QuestionReport
from vqathinker.evaluation.report import Table
from vqathinker.metrics.choices import ChoiceSummary, summarize_choices

PAIR = " + "
"""Between the names of two clips."""
BLIND = "The constant answer is each type's most frequent one in this file, which knows the right answers."
WITH_OPEN = (
    "Columns with open questions count them by the judge's verdicts, as published; there a constant answer, guessing "
    "and no video have no value, as they are known for questions with options only."
)
NAMED = "this policy, faults named in its reasoning"
"""How VQAThinker, Q-Insight and VisualQuality-R1 were measured, with GPT-4o to read what is named."""
NO_OPEN = (
    "Ours counts questions with options only, as open ones have no verdicts (--judge-url): its technical, temporal, "
    "other and all do not compare with the published ones."
)

Asked = AnsweredQuestion | OpenAnswer


def published_tables(
    report: QuestionReport | None, opened: OpenReport | None = None, named: NamedDimensions | None = None
) -> list[Table]:
    """A table for each public set that the questions are of, see `data.question_sets`.

    Args:
        report: Of the questions with options; `None` if there are none.
        opened: Of the open questions; `None` if there are none.
        named: What the reasoning to FineVD's clips names, if it was looked at.
    """
    questions = report.questions if report else ()
    with_blank = report is not None and report.no_video is not None
    tables = []
    if presence := [q for q in _of(questions, finevd.SET) if q.type in finevd.DIMENSIONS]:
        columns = {name: [q for q in presence if q.type == name] for name in finevd.DIMENSIONS}
        ours = _rows(columns, {}, with_blank)
        rows = {who: (*values, _plain_mean(values)) for who, values in ours.items()}
        if named is not None:
            known = named.dimensions
            shares = [100 * known[name].accuracy.value if name in known else math.nan for name in finevd.DIMENSIONS]
            rows[NAMED] = (*shares, _plain_mean(shares))
        tables.append(_table(FINEVD_PRESENCE, rows, [BLIND, beaten_by_constant(FINEVD_PRESENCE)]))
    single = [q for q in _of(questions, QBENCH_TYPES.set) if PAIR not in q.video]
    judged = [q for q in _of(opened.questions if opened else (), QBENCH_TYPES.set) if PAIR not in q.video]
    if single:
        scored = judged if opened is not None and opened.is_judged else []
        picks = {name: _pick(single, name) for name in QBENCH_TYPES.columns}
        rows = _rows(picks, {name: _pick(scored, name) for name in QBENCH_TYPES.columns}, with_blank)
        note = [BLIND, WITH_OPEN if scored else NO_OPEN] if judged else [BLIND]
        tables.append(_table(QBENCH_TYPES, rows, note))
        contexts = {name: _pick(single, name) for name in QBENCH_CONTEXT.columns}
        tables.append(_table(QBENCH_CONTEXT, _rows(contexts, {}, with_blank), [BLIND]))
    return tables


def beaten_by_constant(published: Published) -> str:
    """How many of the published rows the constant answer beats, in a sentence."""
    constant = published.rows[published.constant][-1] or math.nan
    others = {who: values[-1] or math.nan for who, values in published.rows.items() if who != published.constant}
    below = [f"{who} {value:.2f}" for who, value in others.items() if value < constant]
    return (
        f"Always giving each type's more frequent answer reaches {constant:.2f} on the published test file, more than "
        f"{len(below)} of the {len(others)} published rows ({', '.join(below)}): look at balanced accuracy and MCC."
    )


def _of(questions: Sequence[Asked], name: str) -> list:
    return [question for question in questions if f"set: {name}" in question.tags]


def _rows(
    columns: Mapping[str, Sequence[AnsweredQuestion]], opened: Mapping[str, Sequence[OpenAnswer]], with_blank: bool
) -> dict[str, tuple[float, ...]]:
    """Our rows, in percent, a value per column: the policy, and what knows nothing of the clips; this is not known of
    open questions, and NaN in columns that count them."""
    summaries = {name: _summary(own) for name, own in columns.items()}
    blank = {name: [q.no_video == q.right for q in own] for name, own in columns.items()}
    policy = [_accuracy(own, opened.get(name, ())) for name, own in columns.items()]
    rows = {
        "this policy": policy,
        "constant answer, this file": [s.majority for s in summaries.values()],
        "guessing": [s.random for s in summaries.values()],
    }
    if with_blank:
        rows["this policy, no video"] = [float(np.mean(own)) if own else math.nan for own in blank.values()]
    for who, values in rows.items():
        if who != "this policy":
            rows[who] = [math.nan if opened.get(name) else v for name, v in zip(columns, values, strict=True)]
    return {who: tuple(100 * value for value in values) for who, values in rows.items()}


def _accuracy(questions: Sequence[AnsweredQuestion], opened: Sequence[OpenAnswer]) -> float:
    """Mean over all questions: right or wrong, and verdicts over 2."""
    values = [float(q.is_right) for q in questions] + [q.judged for q in opened if not math.isnan(q.judged)]
    return float(np.mean(values)) if values else math.nan


def _summary(questions: Sequence[AnsweredQuestion]) -> ChoiceSummary:
    return summarize_choices(
        [q.chosen for q in questions],
        [q.right for q in questions],
        [q.options for q in questions],
        [q.type for q in questions],
    )


def _pick(questions: Sequence[Asked], column: str) -> list:
    """The questions of a column of Q-Bench-Video's tables."""
    return [question for question in questions if _COLUMNS[column](question)]


def _tag(question: Asked, name: str) -> str:
    """The value of a tag in lower case, "" without it."""
    return next((t.partition(": ")[2].lower() for t in question.tags if t.startswith(f"{name}: ")), "")


def _kind(question: Asked) -> str:
    return "open" if isinstance(question, OpenAnswer) else question.type.lower()


_COLUMNS: dict[str, Callable[[Asked], bool]] = {
    "yes/no": lambda q: "yes" in _kind(q),
    "what/how": lambda q: "what" in _kind(q) or "how" in _kind(q),
    "open": lambda q: _kind(q) == "open",
    "technical": lambda q: "technical" in _tag(q, "concern"),
    "temporal": lambda q: "temporal" in _tag(q, "concern"),
    "other": lambda q: bool(_tag(q, "concern")) and not {"technical", "temporal"} & set(_tag(q, "concern").split(", ")),
    "global": lambda q: "global" in _tag(q, "context"),
    "referring": lambda q: "referring" in _tag(q, "context"),
    "all": lambda q: True,
}


def _plain_mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _table(published: Published, ours: Mapping[str, Sequence[float]], notes: Sequence[str]) -> Table:
    rows = {who: [None if math.isnan(v) else v for v in values] for who, values in ours.items()}
    rows |= {who: list(values) for who, values in published.rows.items()}
    shown = [[who, *(None if value is None else f"{value:.2f}" for value in values)] for who, values in rows.items()]
    return Table(published.title, ["", *published.columns], shown, " ".join([published.note, *notes]))
