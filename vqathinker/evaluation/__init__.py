"""Metrics, summaries, plots and reports."""

from vqathinker.evaluation.judge import Judge, Verdicts
from vqathinker.evaluation.open_questions import OpenAnswer, OpenReport, evaluate_open, with_verdicts
from vqathinker.evaluation.question_results import result_tables, write_questions
from vqathinker.evaluation.question_tables import question_table, question_tables
from vqathinker.evaluation.questions import (
    AnsweredQuestion,
    QuestionReport,
    compare_questions,
    evaluate_questions,
)
from vqathinker.evaluation.summary import Summary, naming_accuracy, summarize
from vqathinker.evaluation.temporal import (
    TemporalPreference,
    sensitivity_table,
    temporal_preference,
    temporal_sensitivity,
)
from vqathinker.metrics.choices import (
    ChoiceSummary,
    rotation_consistency,
    summarize_choices,
)
from vqathinker.metrics.correlation import plcc, srcc
from vqathinker.metrics.paired import (
    CorrelationDifference,
    PairedDifference,
    correlation_difference,
    paired_difference,
)

__all__ = [
    "AnsweredQuestion",
    "ChoiceSummary",
    "CorrelationDifference",
    "Judge",
    "OpenAnswer",
    "OpenReport",
    "PairedDifference",
    "QuestionReport",
    "Summary",
    "TemporalPreference",
    "Verdicts",
    "compare_questions",
    "correlation_difference",
    "evaluate_open",
    "evaluate_questions",
    "naming_accuracy",
    "paired_difference",
    "plcc",
    "question_table",
    "question_tables",
    "result_tables",
    "rotation_consistency",
    "sensitivity_table",
    "srcc",
    "summarize",
    "summarize_choices",
    "temporal_preference",
    "temporal_sensitivity",
    "with_verdicts",
    "write_questions",
]
