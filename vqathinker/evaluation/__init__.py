"""Metrics, predictions and plots."""

from vqathinker.evaluation.metrics import plcc, srcc
from vqathinker.evaluation.predict import Prediction, Summary, predict, summarize

__all__ = ["Prediction", "Summary", "plcc", "predict", "srcc", "summarize"]
