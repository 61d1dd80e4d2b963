"""Metrics, summaries, plots and reports."""

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
from vqathinker.metrics.paired import PairedDifference, paired_difference

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
