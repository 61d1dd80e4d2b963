"""From clips to scores and answers: read-outs, questions, resumable tables."""

from vqathinker.scoring.asking import QualityAnswer
from vqathinker.scoring.comparing import QualityComparison
from vqathinker.scoring.metric import VideoQualityMetric, create_metric, list_models
from vqathinker.scoring.predict import PAPER_SAMPLING, Prediction, predict
from vqathinker.scoring.provenance import decoder, fingerprint, settings_of, told_settings, versions
from vqathinker.scoring.ranking import RankedClip, Ranking, rank_files
from vqathinker.scoring.readouts import READOUTS, expected_score, head_score, level_score
from vqathinker.scoring.scorer import QualityScore, QualityScorer
from vqathinker.scoring.table import ScoreTable, score_files

__all__ = [
    "PAPER_SAMPLING",
    "READOUTS",
    "Prediction",
    "QualityAnswer",
    "QualityComparison",
    "QualityScore",
    "QualityScorer",
    "RankedClip",
    "Ranking",
    "ScoreTable",
    "VideoQualityMetric",
    "create_metric",
    "decoder",
    "expected_score",
    "fingerprint",
    "head_score",
    "level_score",
    "list_models",
    "predict",
    "rank_files",
    "score_files",
    "settings_of",
    "told_settings",
    "versions",
]
