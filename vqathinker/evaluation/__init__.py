"""Metrics, summaries, plots and reports."""

from vqathinker.evaluation.choices import (
    ChoiceSummary,
    rotation_consistency,
    summarize_choices,
)
from vqathinker.evaluation.metrics import plcc, srcc
from vqathinker.evaluation.paired import PairedDifference, paired_difference
from vqathinker.evaluation.summary import Summary, naming_accuracy, summarize
from vqathinker.evaluation.temporal import (
    TemporalPreference,
    sensitivity_table,
    temporal_preference,
    temporal_sensitivity,
)

__all__ = [
    "ChoiceSummary",
    "PairedDifference",
    "Summary",
    "TemporalPreference",
    "naming_accuracy",
    "paired_difference",
    "plcc",
    "rotation_consistency",
    "sensitivity_table",
    "srcc",
    "summarize",
    "summarize_choices",
    "temporal_preference",
    "temporal_sensitivity",
]
