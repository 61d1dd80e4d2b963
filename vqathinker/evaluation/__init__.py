"""Metrics, predictions, plots and reports."""

from vqathinker.evaluation.metrics import plcc, srcc
from vqathinker.evaluation.predict import Prediction, Summary, naming_accuracy, predict, summarize
from vqathinker.evaluation.temporal import TemporalPreference, temporal_preference

__all__ = [
    "Prediction",
    "Summary",
    "TemporalPreference",
    "naming_accuracy",
    "plcc",
    "predict",
    "srcc",
    "summarize",
    "temporal_preference",
]
