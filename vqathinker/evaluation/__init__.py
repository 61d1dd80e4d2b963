"""Metrics, summaries, plots and reports."""

from vqathinker.evaluation.metrics import plcc, srcc
from vqathinker.evaluation.summary import Summary, naming_accuracy, summarize
from vqathinker.evaluation.temporal import (
    TemporalPreference,
    sensitivity_table,
    temporal_preference,
    temporal_sensitivity,
)

__all__ = [
    "Summary",
    "TemporalPreference",
    "naming_accuracy",
    "plcc",
    "sensitivity_table",
    "srcc",
    "summarize",
    "temporal_preference",
    "temporal_sensitivity",
]
